"""What a script wants to know of a report: the verdict, and each row's headline figures under their titles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jisu.benchmarks.report.column import at, figure_path
from jisu.benchmarks.report.columns import headline_columns


def outcome_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The short form of a report; figures are in the report's own units (seconds, bytes, tokens per second)."""
    verdict = report.get("verdict")
    cases = [] if verdict is None else verdict["cases"]
    columns = headline_columns(report)
    rows = []
    for row in report["rows"]:
        paths = {column.title: figure_path(row, column) for column in columns}
        figures = {title: at(row, path) for title, path in paths.items() if path is not None}
        rows.append({"name": row["name"], "failure": row["failure"], "figures": figures})
    return {
        "passed": all(case["passed"] for case in cases),
        "regressed": [case for case in cases if not case["passed"]],
        "not_compared": [] if verdict is None else verdict.get("not_compared", []),
        "rows": rows,
    }
