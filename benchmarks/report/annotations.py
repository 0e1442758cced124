"""A report as annotations of a GitHub run: what regressed is an error, what was not compared a warning.

python -m jisu.benchmarks.report.annotations report.json
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jisu.benchmarks.report.report import read_report

_TITLE = "jisu compare"


def main() -> None:
    for line in workflow_commands(read_report(Path(sys.argv[1]))):
        sys.stdout.write(f"{line}\n")


def workflow_commands(report: Mapping[str, Any]) -> list[str]:
    """Workflow commands for what nobody may overlook, errors first."""
    verdict = report.get("verdict") or {"cases": ()}
    errors = [f"{case['row']}, {case['metric']}: {case['text']}" for case in verdict["cases"] if not case["passed"]]
    warnings = [f"Not compared: {text}" for text in verdict.get("not_compared", ())]
    return [f"::error title={_TITLE}::{_escaped(text)}" for text in errors] + [
        f"::warning title={_TITLE}::{_escaped(text)}" for text in warnings
    ]


def _escaped(text: str) -> str:
    """The message of a workflow command, which ends at the line's end."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


if __name__ == "__main__":
    main()
