"""Every error that a user may cause says what failed, what was received, what is allowed and what to do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("benchmarks", "calibration", "examples", "exporter", "runtimes")
PARTS = {"received", "allowed", "fix"}
# Errors in four parts: ours, and calibration's, which imports none of our packages.
KINDS = {"InputError", "JisuError", "PassFailedError", "StateNotCarriedError"} | {
    "CalibrationError",
    "ActivationError",
    "FormatError",
    "StatisticsError",
    "TextError",
}
# Those that say less, each with its reason.
EXCEPTIONS = {
    "runtimes/backends/tensorrt/plan_file.py": "a reason that another error is made of",
    "runtimes/generation/options.py": "its first part lists each option with its value and what is allowed",
}


def incomplete(path: Path) -> Iterator[str]:
    """Line and missing parts of each error of a module that lacks one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in KINDS:
            continue
        missing = PARTS - {keyword.arg for keyword in node.keywords}
        if missing:
            yield f"{path.name}:{node.lineno}: no {', '.join(sorted(missing))}"


@pytest.mark.parametrize("package", PACKAGES)
def test_errors_have_their_four_parts(package: str) -> None:
    paths = [path for path in (ROOT / package).rglob("*.py") if path.relative_to(ROOT).as_posix() not in EXCEPTIONS]
    assert [line for path in sorted(paths) for line in incomplete(path)] == []


def test_every_exception_is_needed() -> None:
    assert [where for where in EXCEPTIONS if not list(incomplete(ROOT / where))] == []


def test_a_missing_part_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    whole = 'InputError("It failed", received=1, allowed=2, fix="Use 2.")'
    module.write_text(f'raise {whole}\nraise InputError("It failed", received=1, fix="Use 2.")\n', encoding="utf-8")
    assert list(incomplete(module)) == ["module.py:2: no allowed"]
