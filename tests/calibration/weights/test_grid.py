from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.grid import find_grid

STEPS = np.arange(16, dtype=np.float32)


def gridded(low: float, step: float, *, rows: int = 4, blocks: int = 2, size: int = 32) -> np.ndarray:
    """Blocks that use all of sixteen values, low + step * (0 .. 15), in an order of their own."""
    codes = np.stack([np.random.default_rng(i).permutation(np.resize(STEPS, size)) for i in range(rows * blocks)])
    return (low + step * codes).astype(np.float32).reshape(rows, blocks * size)


def test_a_grid_through_zero_needs_codes_and_zero_points_alone() -> None:
    # Twelve values from -1.5 to 4 in steps of 0.5: zero is the fourth, at code 3.
    weight = np.array([[-1.5, 4.0, *(-1.5 + 0.5 * (i % 12) for i in range(14))]], np.float32)
    actual = find_grid(weight, bits=4, layer="w")

    assert actual is not None
    assert actual.format == BlockFormat(bits=4, block_size=16, symmetric=False)
    assert (actual.scales.tolist(), actual.zero_points.tolist(), actual.sums) == ([[0.5]], [[3]], 0)
    assert actual.codes[0, :4].tolist() == [0, 11, 0, 1]
    assert (actual.dequantize() == weight).all()


def test_a_grid_beside_zero_keeps_what_is_left_over_for_the_sums_of_blocks() -> None:
    # The lowest value is one step and 0.2 below zero; the columns after the features hold the 0.2 and zeros.
    weight = gridded(-0.7, 0.5, rows=1, blocks=1, size=16)
    actual = find_grid(weight, bits=4, layer="w")

    assert actual is not None
    assert (actual.sums, actual.codes.shape, actual.scales.shape) == (16, (1, 32), (1, 2))
    assert actual.zero_points[0, 0] == 1
    left = (actual.codes[0, 16:].astype(np.float32) - actual.zero_points[0, 1]) * actual.scales[0, 1]
    np.testing.assert_allclose(left, [-0.2, *[0] * 15], atol=1e-4)
    np.testing.assert_allclose(actual.dequantize(), weight, atol=3e-4)


@pytest.mark.parametrize(("size", "expected"), [(32, 32), (64, 64), (128, 128), (16, 16)])
def test_blocks_are_as_long_as_the_weight_allows(size: int, expected: int) -> None:
    weight = np.concatenate([gridded(-3, 0.375 + 0.01 * i, blocks=1, size=size) for i in range(256 // size)], axis=1)
    actual = find_grid(weight, bits=4, layer="w")

    assert actual is not None
    assert actual.format.block_size == expected


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_a_grid_is_found_behind_the_rounding_of_a_checkpoint(dtype: object) -> None:
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    weight = gridded(-0.0173, 0.00231)
    actual = find_grid(weight.astype(kind).astype(np.float32), bits=4, layer="w")

    assert actual is not None
    assert np.abs(actual.dequantize() - weight).max() < 0.00231 / 15


def test_far_from_zero_the_zero_point_stays_within_its_codes() -> None:
    for low in (100.0, -100.0):
        weight = gridded(low, 0.5)
        actual = find_grid(weight, bits=4, layer="w")
        assert actual is not None
        np.testing.assert_allclose(actual.dequantize(), weight, rtol=1e-3)


def test_zeros_and_blocks_of_one_value_are_grids() -> None:
    weight = np.zeros((3, 32), np.float32)
    weight[1], weight[2] = 0.75, -0.75
    actual = find_grid(np.concatenate([weight, gridded(-1, 0.25, blocks=1)]), bits=4, layer="w")

    assert actual is not None
    assert actual.sums == 0
    assert (actual.dequantize()[:3] == weight).all()


def test_one_weight_beside_its_place_and_there_is_no_grid() -> None:
    weight = gridded(-3, 0.5)
    weight[1, 40] += 0.1

    assert find_grid(weight, bits=4, layer="w") is None


def test_weights_of_five_bits_or_without_a_grid_are_left_to_be_rounded() -> None:
    normal = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    fine = np.random.default_rng(1).permutation(64).astype(np.float32)[None] * 0.1

    assert find_grid(normal, bits=4, layer="w") is None
    assert find_grid(fine, bits=4, layer="w") is None
    assert find_grid(gridded(-3, 0.5, blocks=1, size=24), bits=4, layer="w") is None, "no block size divides 24"
