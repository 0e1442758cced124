from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.calibration.weights.formats import BlockFormat, BlockQuantized
from jisu.calibration.weights.half_scales import LARGEST_ERROR, round_scales


def quantized(*scales: float) -> BlockQuantized:
    return BlockQuantized(
        codes=np.full((1, 16 * len(scales)), 130, np.uint8),
        scales=np.array([scales], np.float32),
        zero_points=np.full((1, len(scales)), 128, np.uint8),
        format=BlockFormat(bits=8, block_size=16, symmetric=True),
    )


def test_scales_become_the_nearest_numbers_of_two_bytes_and_codes_stay() -> None:
    before = quantized(1 + 2**-12, 1 + 3 * 2**-12, -0.5)
    after = round_scales(before)
    assert after.scales.dtype == np.float32
    assert after.scales.tolist() == [[1.0, 1 + 2**-10, -0.5]]  # steps of 2**-10 above one; a quarter goes down
    assert after.codes is before.codes
    assert round_scales(after).scales.tolist() == after.scales.tolist()


@pytest.mark.parametrize("scale", [70000.0, 1.03e-7, np.inf, np.nan])
def test_one_scale_that_cannot_be_rounded_closely_leaves_all_as_they_are(scale: float) -> None:
    before = quantized(0.1, scale)
    assert round_scales(before) is before


def test_the_error_is_within_what_is_said() -> None:
    scales = np.geomspace(3.2e-5, 6e4, 500).tolist()
    rounded = round_scales(quantized(*scales)).scales[0]
    assert 0 < np.abs(rounded / np.array(scales) - 1).max() <= LARGEST_ERROR


def test_of_codes_that_kernels_widen_the_scale_that_they_then_have_is_rounded() -> None:
    form = BlockFormat(bits=6, block_size=16, symmetric=True)
    before = replace(quantized(1 + 3 * 2**-12, 2**-12 + 2**-25), format=form)
    after = round_scales(before)
    assert after.scales.tolist() == [[1 + 2**-10, 2**-12]]
    np.testing.assert_array_equal((after.scales / 4).astype(np.float16).astype(np.float32) * 4, after.scales)
    # A quarter of it is below what float16 has all its digits for.
    small = replace(quantized(0.1, 1e-4), format=form)
    assert round_scales(small) is small
