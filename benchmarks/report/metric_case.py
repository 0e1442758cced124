"""One judged figure of one row: the part of a verdict that becomes a line, and a case of JUnit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def metric_case(
    row: Mapping[str, Any],
    metric: str,
    *,
    passed: bool,
    text: str,
    now: float | None = None,
    before: float | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """A case; ``now``, ``before`` and ``limit`` are the numbers where there are such."""
    return {
        "row": row["name"],
        "metric": metric,
        "passed": passed,
        "verdict": "within the limit" if passed else "regressed",
        "text": text,
        "now": now,
        "before": before,
        "limit": limit,
    }
