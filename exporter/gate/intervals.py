"""How well a figure is known: intervals that hold the true value in 95 of 100 samples of text.

Neighbouring tokens are alike, so a mean is judged by the means of blocks of them, not by single tokens.
"""

from __future__ import annotations

from math import comb, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK = 32  # tokens
_NORMAL = 1.959964
_TAIL = 0.025
_FEW = 30  # trials
_HALVINGS = 40


class Interval(NamedTuple):
    """Lower and upper end; both are the figure itself where too little is known for an interval."""

    low: float
    high: float


def mean_interval(values: npt.NDArray[np.float64], *, block: int = BLOCK) -> Interval:
    """Of the mean of consecutive values, float64 [N]: Student's interval over the means of blocks.

    NaN among the values makes both ends NaN.
    """
    count = len(values) // block
    mean = float(values.mean())
    if count < 2:
        return Interval(mean, mean)
    means = np.array([part.mean() for part in np.array_split(values, count)])
    half = _student(count - 1) * float(means.std(ddof=1)) / sqrt(count)
    return Interval(mean - half, mean + half)


def share_interval(hits: int, count: int) -> Interval:
    """Of a share of independent trials: Wilson's score interval (1927); 0..1 for no trials.

    Of few trials the exact one of Clopper and Pearson (1934): Wilson's is too narrow there, so that one of two would
    exceed a share of 0.05.
    """
    if not count:
        return Interval(0.0, 1.0)
    if count < _FEW:
        return Interval(_exact_low(hits, count), 1.0 - _exact_low(count - hits, count))
    share, spread = hits / count, _NORMAL**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = _NORMAL * sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def _exact_low(hits: int, count: int) -> float:
    """The share at which as many hits or more come about 2.5 times in 100."""
    low, high = 0.0, hits / count
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        chance = sum(comb(count, one) * middle**one * (1 - middle) ** (count - one) for one in range(hits, count + 1))
        low, high = (middle, high) if chance < _TAIL else (low, middle)
    return low


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution, by the expansion around the normal one.

    Abramowitz and Stegun, 26.7.5; of one degree of freedom, where it is far off, the value itself.
    """
    if freedom == 1:
        return 12.706
    z, n = _NORMAL, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )
