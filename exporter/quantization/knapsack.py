"""Picks one option of every item so that the total of one quantity is least while the total of another stays within a
limit: the multiple-choice knapsack problem, by dynamic programming over the limited quantity in equal steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# A choice among a few hundred items comes within a hundredth of the limit.
STEPS = 40_000


def choose_options(
    values: Sequence[Sequence[float]], weights: Sequence[Sequence[float]], *, limit: float, steps: int = STEPS
) -> list[int] | None:
    """Pick one option per item.

    Every weight is rounded up to a multiple of limit / steps, so that a choice never exceeds the limit; it may miss one
    that fits by less than items / steps of the limit.

    Args:
        values: what is to be least in total, by item and option.
        weights: what is limited in total, by item and option; not negative.
        limit: the most weight in total.
        steps: of the dynamic program; its time and memory are items x options x steps.

    Returns:
        The option of each item, the first of equally good ones; None when no choice is within the limit.
    """
    import numpy as np

    sizes = [[_steps_of(weight, limit, steps) for weight in options] for options in weights]
    best: npt.NDArray[np.float64] = np.zeros(steps + 1)
    picks: list[npt.NDArray[np.int16]] = []
    for options, needs in zip(values, sizes, strict=True):
        totals = np.full((len(options), steps + 1), np.inf)
        for row, (value, need) in enumerate(zip(options, needs, strict=True)):
            if need <= steps:
                totals[row, need:] = best[: steps + 1 - need] + value
        pick = totals.argmin(axis=0)
        picks.append(pick.astype(np.int16))
        best = totals[pick, np.arange(steps + 1)]
    if not np.isfinite(best[steps]):
        return None
    left, chosen = steps, []
    for pick, needs in zip(reversed(picks), reversed(sizes), strict=True):
        option = int(pick[left])
        chosen.append(option)
        left -= needs[option]
    return chosen[::-1]


def _steps_of(weight: float, limit: float, steps: int) -> int:
    import math

    if weight <= 0:
        return 0
    return steps + 1 if weight > limit else math.ceil(weight / limit * steps * (1 - 1e-12))
