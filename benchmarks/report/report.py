"""The report: one JSON file that is the truth, and the others rendered from it and from nothing else."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

from jisu.benchmarks.report.places import without_places
from jisu.benchmarks.report.schema import HTML, JSON, JUNIT, KIND, MARKDOWN, SCHEMA_VERSION, Report
from jisu.benchmarks.report.verdict import Limits, judge, junit_cases
from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.exporter.jobs.output_path import cannot_write


def write_json(report: Report, path: Path) -> None:
    """Write the report, whole or not at all; numbers that JSON does not have must not be in it.

    Nothing in it says where files lie on this machine.
    """
    write_whole(path, json.dumps(without_places(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody finds half of it, however this ends; raises InputError where there is no room."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path.parent, error, what="report", option="--out") from error
    finally:
        partial.unlink(missing_ok=True)


def write_report(report: Report, folder: Path, *, junit: Path | None = None) -> None:
    """Write the truth and all that is rendered from it; ``junit`` is another place for the JUnit file."""
    from jisu.benchmarks.report.html import render_html
    from jisu.benchmarks.report.markdown import render_markdown
    from jisu.exporter.reports.junit import write_junit

    report = without_places(report)
    write_json(report, folder / JSON)
    write_whole(folder / MARKDOWN, render_markdown(report))
    write_whole(folder / HTML, render_html(report))
    write_junit(junit or folder / JUNIT, "jisu compare", junit_cases(report))


def require_plots() -> None:
    """Raise MissingDependencyError when the package that draws is not there: before anything is measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError("matplotlib", extra="report", needed_for="The report's HTML page")


def read_report(path: Path) -> Report:
    """Read a report that `write_json` wrote; one of another schema is handed over as it is.

    Raises:
        InputError: there is none, or the file is none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"The report {path} cannot be read",
            received=error,
            allowed="a report.json that `jisu compare` has written",
            fix="Check the path.",
        ) from error
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise InputError(
            f"{path} is not a report",
            received="JSON of another kind",
            allowed="a report.json that `jisu compare` has written",
            fix="Check the path.",
        )
    if data.get("schema_version") == SCHEMA_VERSION and not _has_its_parts(data):
        raise InputError(
            f"The report {path} is damaged",
            received="a file without parts of a report",
            allowed="a report.json that `jisu compare` has written",
            fix="Create the report again with `jisu compare`.",
        )
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _has_its_parts(data: Report) -> bool:
    """Whether a report of our schema has what others are compared with: it can be compared with itself."""
    if not _has_its_frame(data):
        return False
    try:
        judge(data, data, Limits(max_slowdown=1.0, max_memory_growth=1.0, max_size_growth=1.0))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return False
    return True


def _has_its_frame(data: Report) -> bool:
    rows, workloads = data.get("rows"), data.get("workloads")
    return (
        isinstance(rows, list)
        and all(isinstance(row, dict) and {"name", "failure", "measured"} <= row.keys() for row in rows)
        and isinstance(workloads, list)
        and all(isinstance(item, dict) and "name" in item for item in workloads)
        and isinstance(data.get("machine"), dict)
        and isinstance(data.get("settings"), dict)
        and "threads" in data["settings"]
    )


def finite(value: Any) -> Any:
    """The same data with every number that JSON does not have replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def prepare_folder(folder: Path) -> None:
    """Make the report's folder and see that it can be written to, before anything is measured; raises InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".write-test"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"The report cannot be written into {folder}",
            received=error.strerror or error,
            allowed="a folder that can be written to",
            fix="Name another one with --out.",
        ) from error
