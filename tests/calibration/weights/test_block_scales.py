from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.weights.block_scales import encode, full_range, least_error
from jisu.calibration.weights.formats import BlockFormat, Floats

SYMMETRIC = BlockFormat(bits=4, block_size=16, symmetric=True)
ASYMMETRIC = BlockFormat(bits=4, block_size=16, symmetric=False)


def error(
    blocks: Floats, scale: Floats, zero: Floats, block_format: BlockFormat, importance: float | Floats = 1
) -> Floats:
    rest = (encode(blocks, scale, zero, block_format) - zero[..., None]) * scale[..., None] - blocks
    return np.asarray((rest**2 * importance).sum(axis=-1))


def test_symmetric_full_range_by_hand() -> None:
    scale, zero = full_range(np.array([[0.0, -14.0, 7.0]], dtype=np.float32), SYMMETRIC)

    assert (scale.tolist(), zero.tolist()) == ([2.0], [8.0])
    assert encode(np.array([[0.0, -14.0, 7.0]], dtype=np.float32), scale, zero, SYMMETRIC).tolist() == [[8, 1, 12]]


def test_asymmetric_full_range_by_hand() -> None:
    block = np.array([[-3.0, 12.0, 0.0]], dtype=np.float32)
    scale, zero = full_range(block, ASYMMETRIC)

    assert (scale.tolist(), zero.tolist()) == ([1.0], [3.0])
    assert encode(block, scale, zero, ASYMMETRIC).tolist() == [[0, 15, 3]]


def test_a_positive_block_still_represents_zero() -> None:
    scale, zero = full_range(np.array([[15.0, 30.0]], dtype=np.float32), ASYMMETRIC)

    assert (scale.tolist(), zero.tolist()) == ([2.0], [0.0])


@pytest.mark.parametrize("block_format", [SYMMETRIC, ASYMMETRIC])
@pytest.mark.parametrize("value", [0.0, 1e-44])
def test_zero_row_keeps_scale_one(block_format: BlockFormat, value: float) -> None:
    block = np.full((1, 16), value, dtype=np.float32)

    for scale, zero in (full_range(block, block_format), least_error(block, block_format)):
        assert scale.tolist() == [1.0]
        assert encode(block, scale, zero, block_format)[0].tolist() == [float(zero[0])] * 16


@pytest.mark.parametrize("block_format", [SYMMETRIC, ASYMMETRIC])
def test_searching_is_never_worse_and_mostly_better(block_format: BlockFormat) -> None:
    blocks = np.random.default_rng(0).standard_normal((50, 3, 64)).astype(np.float32)
    importance = np.random.default_rng(1).random((3, 64)).astype(np.float32)

    plain = error(blocks, *full_range(blocks, block_format), block_format, importance)
    actual = error(blocks, *least_error(blocks, block_format, importance=importance), block_format, importance)

    assert (actual <= plain * (1 + 1e-5)).all()
    assert actual.mean() < 0.9 * plain.mean()


def test_an_important_value_is_kept_and_an_idle_outlier_clipped() -> None:
    block = np.array([[1.0] * 15 + [8.0]], dtype=np.float32)
    importance = np.array([1.0] * 15 + [0.0])
    scale, zero = least_error(block, SYMMETRIC, importance=importance)

    weights = (encode(block, scale, zero, SYMMETRIC) - zero[:, None]) * scale[:, None]
    assert np.allclose(weights[0, :15], 1, atol=1e-6)


def test_a_grid_that_fits_exactly_is_found_again() -> None:
    random = np.random.default_rng(2)
    codes = random.integers(0, 16, (20, 64))
    codes[:, 0], codes[:, 1] = 0, 15
    blocks = ((codes - 5) * 0.25).astype(np.float32)

    assert error(blocks, *least_error(blocks, ASYMMETRIC), ASYMMETRIC).max() < 1e-9
