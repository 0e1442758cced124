from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.scale_grid import fit_tile, multiply_tiles
from tests.exporter.sources.quantized.tables import table_of


def tile(shape, scales, block=None):
    table = table_of({"w": torch.empty(shape), "s": torch.empty(scales)})
    return fit_tile(table["w"], table["s"], shape=tuple(shape), block=block)


@pytest.mark.parametrize(
    ("shape", "scales", "block", "rows", "columns"),
    [
        ((6, 8), (), None, 6, 8),
        ((6, 8), (1,), None, 6, 8),
        ((6, 8), (6,), None, 1, 8),
        ((6, 8), (6, 1), None, 1, 8),
        ((6, 8), (6, 2), None, 1, 4),
        ((6, 8), (2, 2), (3, 4), 3, 4),
        ((300, 200), (3, 2), (128, 128), 128, 128),
        ((300, 200), (3, 2), None, 128, 128),
        ((192, 128), (2, 1), None, 128, 128),
        ((192, 128), (2, 1), (96, 128), 96, 128),
        ((4, 6, 8), (4,), None, 6, 8),
        ((4, 6, 8), (4, 6), None, 1, 8),
        ((4, 6, 8), (4, 1, 8), None, 6, 1),
    ],
)
def test_shapes_tell_what_a_scale_is_for(shape, scales, block, rows, columns):
    actual = tile(shape, scales, block)
    assert (actual.rows, actual.columns) == (rows, columns)


@pytest.mark.parametrize("scales", [(5,), (4, 2), (7, 1), (2, 6, 8)])
def test_scales_that_fit_nothing_are_refused(scales):
    with pytest.raises(InputError, match=r"The quantized weight w cannot be read.*s of"):
        tile((6, 8), scales)


def test_the_last_block_of_each_axis_may_be_short():
    values = np.ones((3, 5), np.float32)
    scales = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    multiply_tiles(values, scales, tile((3, 5), (2, 3), (2, 2)))
    assert values.tolist() == [[1, 1, 2, 2, 3], [1, 1, 2, 2, 3], [4, 4, 5, 5, 6]]


def test_experts_have_scales_of_their_own():
    values = np.ones((2, 2, 2), np.float32)
    multiply_tiles(values, np.array([3, 5], np.float32), tile((2, 2, 2), (2,)))
    assert values[:, 0, 0].tolist() == [3, 5]
