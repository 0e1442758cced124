"""Statistics of several pieces of a text -> those of the whole text: sums are added, extremes compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np

from jisu.calibration.errors import StatisticsError
from jisu.calibration.statistics.statistics import InputStatistics, Origin, Statistics, write_statistics


def add_statistics(pieces: Sequence[Path], folder: Path, *, windows: str) -> Statistics:
    """Add up finished statistics of one model with the same settings, group by group, into a folder.

    Args:
        pieces: folders of statistics, at least one.
        windows: hash of all their windows together, see `calibration.text.windows.Windows`.

    Raises:
        StatisticsError: one is damaged or unfinished, or they are of different models, settings or groups of layers.
    """
    opened = [Statistics(piece) for piece in pieces]
    first = opened[0]
    for other in opened:
        other.require(model=first.origin.model)
        if (other.groups, other.origin.settings) != (first.groups, first.origin.settings):
            raise StatisticsError(
                f"The statistics in {other.folder} and {first.folder} cannot be added",
                received=f"{len(other.groups)} and {len(first.groups)} groups of layers",
                allowed="the same groups of layers, collected with the same settings",
                fix="Collect them again.",
            )
    count = sum(piece.windows_done for piece in opened)
    origin = Origin(model=first.origin.model, windows=windows, settings=first.origin.settings)
    sums = (reduce(_add, (piece.read_group(index) for piece in opened)) for index in range(len(first.groups)))
    write_statistics(folder, origin, sums, windows_done=count, windows_wanted=count)
    return Statistics(folder)


def _add(one: InputStatistics, other: InputStatistics) -> InputStatistics:
    return InputStatistics(
        names=one.names,
        tokens=one.tokens + other.tokens,
        sum_abs=one.sum_abs + other.sum_abs,
        max_abs=np.maximum(one.max_abs, other.max_abs),
        sum_square=one.sum_square + other.sum_square,
        gram=None if one.gram is None or other.gram is None else one.gram + other.gram,
        output_max_abs=tuple(map(max, zip(one.output_max_abs, other.output_max_abs, strict=True))),
    )
