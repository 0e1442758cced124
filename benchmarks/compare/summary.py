"""One number over the trials: median, range, and an interval that holds the true median with a known confidence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

WANTED_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Median and spread; ``low`` to ``high`` is the confidence interval of the median, ``confidence`` its own."""

    median: float
    low: float
    high: float
    confidence: float
    least: float
    most: float
    trials: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarize(values: Sequence[float]) -> Summary:
    """Summarize at least one value.

    The interval is between two order statistics and assumes no distribution: with n values, the k-th smallest and the
    k-th largest enclose the median with the confidence 1 - 2 P(X < k), X binomial with n and 1/2 (Conover, Practical
    Nonparametric Statistics, section 3.2). The narrowest one of at least 0.95 is taken, or the whole range where that
    has less, as with five values (0.9375) or fewer.
    """
    ordered = sorted(values)
    count = len(ordered)
    rank, confidence = 1, 1 - 2 * _below(1, count)
    while rank + 1 <= count - rank and 1 - 2 * _below(rank + 1, count) >= WANTED_CONFIDENCE:
        rank += 1
        confidence = 1 - 2 * _below(rank, count)
    return Summary(
        median=statistics.median(ordered),
        low=ordered[rank - 1],
        high=ordered[count - rank],
        confidence=max(0.0, confidence),
        least=ordered[0],
        most=ordered[-1],
        trials=count,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed: a measured one, not interpolated."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _below(rank: int, count: int) -> float:
    """P(X < rank) of the binomial distribution with ``count`` and 1/2."""
    return float(sum(math.comb(count, number) for number in range(rank)) / 2**count)
