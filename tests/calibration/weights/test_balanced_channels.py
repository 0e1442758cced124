from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.errors import ActivationError
from jisu.calibration.weights.balanced_channels import (
    balanced_error,
    balancing_scales,
    column_squares,
    expected_error,
    widest_blocks,
)


def floats(*rows):
    return np.array(rows, dtype=np.float32)


# Root mean squares 16 and 1 of the input; 1 and 1 of the weights' columns, over two matrices.
INPUTS = floats(256, 1)[()]
WEIGHTS = [floats([1.0, 0.6]), floats([0.0, 0.8])]
COLUMNS = column_squares(WEIGHTS)


def error_of(*, block_size):
    return expected_error(INPUTS, COLUMNS, widest_blocks(WEIGHTS, None, block_size=block_size), block_size=block_size)


def test_the_sums_by_hand():
    assert COLUMNS.tolist() == pytest.approx([1, 1])
    assert widest_blocks(WEIGHTS, None, block_size=2).tolist() == pytest.approx([1.64])
    assert widest_blocks(WEIGHTS, floats(1, 2)[()], block_size=2).tolist() == pytest.approx([1.44 + 2.56])


def test_the_sums_of_many_pieces_are_those_of_the_whole():
    weight = np.random.default_rng(0).standard_normal((2500, 96)).astype(np.float32)
    np.testing.assert_allclose(column_squares([weight]), np.square(weight, dtype=np.float64).sum(axis=0), rtol=1e-5)
    largest = np.square(np.abs(weight).reshape(2500, 3, 32).max(axis=2), dtype=np.float64).sum(axis=0)
    np.testing.assert_allclose(widest_blocks([weight], None, block_size=32), largest, rtol=1e-5)


def test_the_scales_by_hand():
    # sqrt(16 / 1) = 4 and sqrt(1 / 1) = 1, over their geometric mean 2.
    assert balancing_scales(INPUTS, COLUMNS, layer="q").tolist() == pytest.approx([2.0, 0.5])


def test_the_error_by_hand():
    # max(x)**2 * sum(w**2) = 256 * 2; max(w)**2 * sum(x**2), row by row = (1 + 0.64) * 257.
    assert error_of(block_size=2) == pytest.approx(512 + 1.64 * 257)
    # In blocks of one channel nobody takes the codes of a neighbour: 256 + 1, then 256 + (0.36 + 0.64).
    assert error_of(block_size=1) == pytest.approx(257 + 257)


def test_balanced_channels_have_a_smaller_error_by_hand():
    scales = balancing_scales(INPUTS, COLUMNS, layer="q")
    # x**2 becomes 64 and 4, w**2 becomes 4 and .25: 64 * 4.25, and (4 + .16) * 68 of the rows (2, .3) and (0, .4).
    expected = (64 * 4.25 + 4.16 * 68) / (512 + 1.64 * 257)
    assert balanced_error(INPUTS, WEIGHTS, scales, columns=COLUMNS, block_size=2) == pytest.approx(expected, rel=1e-5)


def test_scaling_both_sides_by_one_factor_changes_no_error():
    assert balanced_error(INPUTS, WEIGHTS, floats(3, 3)[()], columns=COLUMNS, block_size=2) == pytest.approx(1)


def test_a_silent_channel_and_an_empty_column_give_finite_scales():
    for squares, weight in ((floats(0, 0)[()], floats([0, 0])), (floats(0, 4)[()], floats([1, 0]))):
        columns = column_squares([weight])
        scales = balancing_scales(squares, columns, layer="q")
        assert np.isfinite(scales).all()
        assert (scales > 0).all()
        assert np.isfinite(balanced_error(squares, [weight], scales, columns=columns, block_size=2))


def test_statistics_that_are_not_finite_name_the_layer():
    with pytest.raises(ActivationError, match=r"layers\.0\.q"):
        balancing_scales(floats(np.nan, 1)[()], COLUMNS, layer="layers.0.q")
