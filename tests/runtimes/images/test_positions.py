"""Positions on three axes, against a table written by hand."""

from __future__ import annotations

import numpy as np

from jisu.runtimes.images.positions import axis_shifts
from jisu.runtimes.images.preparation import Prepared


def test_an_image_counts_its_lines_and_columns_and_text_goes_on_behind_the_longer_edge() -> None:
    shown = np.array([0, 0, 1, 1, 1, 1, 1, 1, 0, 0], bool)
    shifts, after = axis_shifts(shown, [Prepared(inputs={}, rows=2, columns=3)])
    positions = shifts + np.arange(10)
    assert positions.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]
    assert after == 7 - 10


def test_two_images_side_by_side_are_told_apart() -> None:
    shown = np.array([1, 1, 1, 0], bool)
    images = [Prepared(inputs={}, rows=1, columns=1), Prepared(inputs={}, rows=1, columns=2)]
    shifts, after = axis_shifts(shown, images)
    assert (shifts + np.arange(4))[2].tolist() == [0, 1, 2, 3]
    assert after == 0


def test_text_alone_is_not_shifted() -> None:
    shifts, after = axis_shifts(np.zeros(5, bool), [])
    assert not shifts.any()
    assert after == 0
