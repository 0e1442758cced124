from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.weights.formats import BlockFormat, Floats
from jisu.calibration.weights.hqq import NORM, hqq, shrink_outliers
from jisu.calibration.weights.round_to_nearest import round_to_nearest

FORMAT = BlockFormat(bits=4, block_size=64, symmetric=False)


def test_the_proximal_step_by_hand() -> None:
    # |4|**(0.7 - 1) / 10 = 0.066; a small value's penalty is larger than itself.
    shrunk = shrink_outliers(np.array([4.0, -4.0, 0.001, 0.0], dtype=np.float32), 10.0)

    assert np.allclose(shrunk, [4 - 4**-0.3 / 10, -(4 - 4**-0.3 / 10), 0, 0])


def loss(weight: Floats, dequantized: Floats) -> float:
    return float((np.abs(dequantized - weight) ** NORM).sum())


def test_no_block_gets_worse_in_the_norm_that_is_minimized() -> None:
    weight = np.random.default_rng(0).standard_t(3, (64, 128)).astype(np.float32)
    start = loss(weight, round_to_nearest(weight, FORMAT, layer="w", search=False).dequantize())
    result = hqq(weight, FORMAT, layer="w")

    assert loss(weight, result.dequantize()) < 0.99 * start
    assert result.zero_points.dtype == np.uint8
    assert result.zero_points.max() <= 15


def test_zeros_stay_zero() -> None:
    result = hqq(np.zeros((2, 64), np.float32), FORMAT, layer="w")

    assert not result.dequantize().any()
    assert (result.scales == 1).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_symmetric_format_is_only_rounded(bits: int) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    symmetric = BlockFormat(bits=bits, block_size=32, symmetric=True)

    rounded = round_to_nearest(weight, symmetric, layer="w", search=False)
    assert (hqq(weight, symmetric, layer="w").codes == rounded.codes).all()
