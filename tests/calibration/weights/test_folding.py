from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.calibration.errors import FormatError
from jisu.calibration.weights.folding import (
    divide_norm,
    divide_quantized_rows,
    divide_rows,
    multiply_columns,
    one_per_value_head,
    share_between_query_heads,
    widest_columns,
)
from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest

RANDOM = np.random.default_rng(0)
SCALES = np.array([0.5, 2.0, 4.0], dtype=np.float32)


def test_folding_into_a_norm_keeps_the_output() -> None:
    normed, gain = RANDOM.standard_normal((5, 3)).astype(np.float32), np.array([1, 2, 3], dtype=np.float32)
    weight = RANDOM.standard_normal((4, 3)).astype(np.float32)

    before = (normed * gain) @ weight.T
    after = (normed * divide_norm(gain, SCALES)) @ multiply_columns(weight, SCALES).T
    assert np.allclose(before, after, atol=1e-5)


def test_folding_into_the_rows_of_the_layer_before_keeps_the_output() -> None:
    inputs = RANDOM.standard_normal((5, 6)).astype(np.float32)
    first, bias = RANDOM.standard_normal((3, 6)).astype(np.float32), np.array([1, -1, 2], dtype=np.float32)
    second = RANDOM.standard_normal((4, 3)).astype(np.float32)

    before = (inputs @ first.T + bias) @ second.T
    moved = inputs @ divide_rows(first, SCALES).T + divide_rows(bias, SCALES)
    assert np.allclose(before, moved @ multiply_columns(second, SCALES).T, atol=1e-5)


def test_grouped_query_heads_share_the_factor_of_their_value_head() -> None:
    # Four query heads of two features, two value heads.
    values = np.array([1, 10, 3, 30, 5, 50, 7, 70], dtype=np.float32)

    shared = share_between_query_heads(values, 4, 2)
    assert shared.tolist() == [2, 20, 2, 20, 6, 60, 6, 60]
    assert one_per_value_head(shared, 4, 2).tolist() == [2, 20, 6, 60]


def test_the_widest_weight_of_a_feature_is_over_all_layers() -> None:
    widest = widest_columns([np.array([[1.0, -5.0]], np.float32), np.array([[-2.0, 3.0], [0.0, 4.0]], np.float32)])
    assert widest.tolist() == [2, 5]


def test_folding_into_quantized_rows_changes_no_code() -> None:
    weight = RANDOM.standard_normal((3, 32)).astype(np.float32)
    quantized = round_to_nearest(weight, BlockFormat(bits=4, block_size=16, symmetric=False), layer="w")
    divided = divide_quantized_rows(quantized, SCALES)

    assert (divided.codes == quantized.codes).all()
    assert np.allclose(divided.dequantize(), divide_rows(quantized.dequantize(), SCALES))


def test_channel_scales_are_divided_out_of_what_stands_for_the_weight() -> None:
    weight, scales = RANDOM.standard_normal((4, 32)).astype(np.float32), np.full(32, 4.0, dtype=np.float32)
    form = BlockFormat(bits=8, block_size=16, symmetric=False)
    quantized = round_to_nearest(multiply_columns(weight, scales), form, layer="w")

    assert np.allclose(replace(quantized, channel_scales=scales).dequantize(), weight, atol=0.02)
    assert not np.allclose(quantized.dequantize(), weight, atol=0.02)


@pytest.mark.parametrize("scales", [[1.0, 1.0], [1.0, 0.0, 1.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0]])
def test_scales_that_do_not_fit_are_refused(scales: list[float]) -> None:
    with pytest.raises(FormatError, match="one finite, positive scale per channel"):
        multiply_columns(np.ones((2, 3), np.float32), np.array(scales, dtype=np.float32))
