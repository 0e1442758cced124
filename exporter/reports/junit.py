"""Results as JUnit XML, which every CI system shows: the gate's checks, and whatever else has cases.

Standard library only, beside the errors and the look for artifacts in the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jisu.exporter.contract.artifact import check_outside_artifacts
from jisu.exporter.contract.errors import InputError

# What XML 1.0 cannot hold, section 2.2.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class JunitCase:
    """One case: ``group`` and ``name`` tell it from the others, ``text`` says what was found."""

    group: str
    name: str
    passed: bool
    text: str
    skipped: bool = False


def gate_cases(gate: Mapping[str, Any]) -> list[JunitCase]:
    """The checks of a gate's record, as a manifest has them."""
    return [
        JunitCase(group="gate", name=str(check["name"]), passed=bool(check["passed"]), text=str(check["detail"]))
        for check in gate.get("checks", [])
    ]


def junit_xml(name: str, cases: Sequence[JunitCase]) -> str:
    """The cases as one test suite."""
    counts = {
        "tests": len(cases),
        "failures": sum(not case.passed and not case.skipped for case in cases),
        "skipped": sum(case.skipped for case in cases),
        "errors": 0,
    }
    numbers = {key: str(value) for key, value in counts.items()}
    # The schema that Jenkins reads with knows no skipped cases of all suites together.
    total = {key: value for key, value in numbers.items() if key != "skipped"}
    root = ElementTree.Element("testsuites", total)
    suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(name), **numbers})
    for case in cases:
        attributes = {"classname": _clean(case.group), "name": _clean(case.name)}
        element = ElementTree.SubElement(suite, "testcase", attributes)
        if case.skipped:
            ElementTree.SubElement(element, "skipped", {"message": _clean(case.text)})
        elif not case.passed:
            ElementTree.SubElement(element, "failure", {"message": _clean(case.text)}).text = _clean(case.text)
        else:
            ElementTree.SubElement(element, "system-out").text = _clean(case.text)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def write_junit(path: Path, name: str, cases: Sequence[JunitCase]) -> None:
    """Write the cases into a file, and its folder where that is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(junit_xml(name, cases), encoding="utf-8")


def check_place(path: Path, *, option: str) -> None:
    """See that the file can be written before the work is done, and into no artifact; raises InputError."""
    check_outside_artifacts(path, option=option)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        with path.open("a", encoding="utf-8"):
            pass
        if not existed:  # an empty file is no XML, for whoever reads it after a run that was ended
            path.unlink()
    except OSError as error:
        raise InputError(
            f"The report {path} cannot be written",
            received=error.strerror or error,
            allowed="a file that can be written",
            fix="Name another one.",
        ) from error


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
