from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.weights.formats import BlockFormat, BlockQuantized
from jisu.calibration.weights.kernel_codes import STORED_BITS, to_kernel_codes
from jisu.calibration.weights.round_to_nearest import round_to_nearest


def test_six_bits_become_eight_by_hand():
    form = BlockFormat(bits=6, block_size=16, symmetric=True)
    codes = np.array([[0, 31, 32, 63] * 4], np.uint8)
    part = BlockQuantized(
        codes=codes, scales=np.array([[0.5]], np.float32), zero_points=np.array([[32]], np.uint8), format=form
    )
    wide = to_kernel_codes(part)
    assert wide.codes[0, :4].tolist() == [0, 124, 128, 252]
    assert wide.scales.tolist() == [[0.125]]
    assert wide.zero_points.tolist() == [[128]]
    assert (wide.format.bits, wide.format.middle) == (8, 128)
    assert wide.dequantize()[0, :4].tolist() == [-16.0, -0.5, 0.0, 15.5]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", STORED_BITS)
def test_the_weight_is_the_same_to_the_last_bit_and_takes_less_room_in_a_file(bits, symmetric):
    weight = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
    part = round_to_nearest(weight, BlockFormat(bits=bits, block_size=32, symmetric=symmetric), layer="test")
    wide = to_kernel_codes(part)
    np.testing.assert_array_equal(wide.dequantize(), part.dequantize())
    assert not (wide.codes % (1 << (8 - bits))).any()
    if symmetric:
        assert part.format.stored_bytes(6, 64, layer="w") == 6 * (64 * bits // 8 + 2 * 4)
        assert wide.format.stored_bytes(6, 64, layer="w") == 6 * (64 + 2 * 4)
    else:
        assert part.format.stored_bytes(6, 64, layer="w") == 6 * (64 * bits // 8 + 2 * 4 + 2), "zero points of a byte"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_kernels_take_stays(bits):
    weight = np.ones((2, 16), np.float32)
    part = round_to_nearest(weight, BlockFormat(bits=bits, block_size=16, symmetric=True), layer="test")
    assert to_kernel_codes(part) is part
