from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from jisu.calibration.errors import FormatError
from jisu.calibration.weights import row_pieces
from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.calibration.weights.row_pieces import count_cores


def test_a_row_by_hand() -> None:
    row = np.zeros((1, 16), dtype=np.float32)
    row[0, :4] = [-3.0, 12.0, 0.4, 0.6]
    result = round_to_nearest(row, BlockFormat(bits=4, block_size=16, symmetric=False), layer="w", search=False)

    assert (result.scales.tolist(), result.zero_points.tolist()) == ([[1.0]], [[3]])
    assert result.codes[0, :5].tolist() == [0, 15, 3, 4, 3]
    assert result.dequantize()[0, :4].tolist() == [-3.0, 12.0, 0.0, 1.0]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_no_weight_is_further_than_half_a_step(bits: int, symmetric: bool) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    block_format = BlockFormat(bits=bits, block_size=32, symmetric=symmetric)
    result = round_to_nearest(weight, block_format, layer="w", search=False)

    steps = np.abs(result.dequantize() - weight) / np.repeat(result.scales, 32, axis=1)
    # A rounded zero point can push an extreme out of the codes by up to half a step more.
    assert steps.max() <= (0.5 if symmetric else 1.0) + 1e-5
    assert result.codes.dtype == result.zero_points.dtype == np.uint8


def test_the_short_last_block_is_as_good_as_a_matrix_of_its_own() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 48)).astype(np.float32)
    together = BlockFormat(bits=4, block_size=32, symmetric=False, short_last_block=True)
    alone = BlockFormat(bits=4, block_size=16, symmetric=False)

    result = round_to_nearest(weight, together, layer="w", search=False)
    last = round_to_nearest(weight[:, 32:], alone, layer="w", search=False)

    assert result.codes.shape == (4, 48)
    assert (result.codes[:, 32:] == last.codes).all()
    assert (result.scales[:, 1:] == last.scales).all()


def test_importance_lowers_the_weighted_error() -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((32, 64)).astype(np.float32)
    importance = random.random(64) ** 4
    block_format = BlockFormat(bits=4, block_size=32, symmetric=False)

    def weighted(**options: object) -> float:
        result = round_to_nearest(weight, block_format, layer="w", **options)
        return float((((result.dequantize() - weight) ** 2) * importance).sum())

    assert weighted(importance=importance) < 0.95 * weighted()


def test_the_layer_is_named_when_the_block_does_not_fit() -> None:
    with pytest.raises(FormatError, match="K=40 of head"):
        round_to_nearest(np.ones((2, 40), np.float32), BlockFormat(bits=8, block_size=32, symmetric=True), layer="head")


@pytest.mark.parametrize("search", [False, True])
def test_rows_of_many_pieces_are_rounded_as_if_alone(monkeypatch, search):
    monkeypatch.setattr(row_pieces, "count_cores", lambda: 3)
    weight = np.random.default_rng(0).standard_normal((20_000, 96)).astype(np.float32)
    block_format = BlockFormat(bits=4, block_size=32, symmetric=False)
    whole = round_to_nearest(weight, block_format, layer="w", search=search)

    monkeypatch.setattr(row_pieces, "count_cores", lambda: 1)
    alone = round_to_nearest(weight, block_format, layer="w", search=search)
    for name in ("codes", "scales", "zero_points"):
        assert np.array_equal(getattr(alone, name), getattr(whole, name)), name
    for rows in (slice(0, 5), slice(1500, 1507), slice(19_999, 20_000)):
        part = round_to_nearest(weight[rows], block_format, layer="w", search=search)
        assert np.array_equal(part.codes, whole.codes[rows])
        assert np.array_equal(part.scales, whole.scales[rows])


def test_channel_scales_are_those_of_columns_multiplied_before():
    random = np.random.default_rng(0)
    weight, scales = random.standard_normal((8, 64)).astype(np.float32), random.random(64).astype(np.float32) + 0.5
    block_format = BlockFormat(bits=8, block_size=32, symmetric=True)
    result = round_to_nearest(weight, block_format, layer="w", channel_scales=scales)

    assert (result.codes == round_to_nearest(weight * scales, block_format, layer="w").codes).all()
    assert np.abs(result.dequantize() - weight).max() < 0.04


def test_little_memory_is_held_beside_the_result():
    weight = np.random.default_rng(0).standard_normal((8192, 512)).astype(np.float32)
    tracemalloc.start()
    try:
        result = round_to_nearest(weight, BlockFormat(bits=4, block_size=32, symmetric=False), layer="w")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    held = result.codes.nbytes + result.scales.nbytes + result.zero_points.nbytes
    assert peak - held < 3_000_000 * count_cores(), "a few buffers of one piece for every thread"
