"""Positions of tokens on three axes, time, height and width, where a model has them (Wang et al. 2024, section 2.1).

A token of text has one position on all three, the next free one. The tokens of an image begin at the same one and
count its lines and columns; behind it the next free position is that of the longer edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jisu.runtimes.images.preparation import Prepared

AXES = 3


def axis_shifts(shown: npt.NDArray[np.bool_], images: Sequence[Prepared]) -> tuple[npt.NDArray[np.int64], int]:
    """How far positions lie from the tokens' places.

    Args:
        shown: bool [T], True for the tokens of images; those of each image are ``rows * columns`` in a run.
        images: in their order.

    Returns:
        int64 [3, T], and the shift of all tokens that follow.
    """
    places = np.arange(len(shown))
    positions = np.zeros((AXES, len(shown)), np.int64)
    place = free = 0
    starts = iter(images)
    while place < len(shown):
        if not shown[place]:
            positions[:, place] = free
            place, free = place + 1, free + 1
            continue
        image = next(starts)
        count = image.rows * image.columns
        lines, columns = np.divmod(np.arange(count), image.columns)
        positions[:, place : place + count] = free + np.stack([np.zeros(count, np.int64), lines, columns])
        place, free = place + count, free + max(image.rows, image.columns)
    return positions - places, free - len(shown)
