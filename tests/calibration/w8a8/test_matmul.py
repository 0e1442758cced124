from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.calibration.errors import ActivationError
from jisu.calibration.statistics.statistics import InputStatistics
from jisu.calibration.w8a8 import matmul
from jisu.calibration.w8a8.feeders import Feeder
from jisu.calibration.w8a8.matmul import ActivationFormat, Int8Matmul, emulated, quantize_products
from jisu.calibration.w8a8.static_activations import ActivationScale

WEIGHT = np.array([[-4.0, 1.0]], np.float32)


def reaching(*max_abs: float) -> InputStatistics:
    """Statistics of an input whose channels reach these values."""
    largest = np.array(max_abs, np.float32)
    return InputStatistics(
        names=("layers.0.down",),
        tokens=1,
        sum_abs=largest.astype(np.float64),
        max_abs=largest,
        sum_square=np.square(largest, dtype=np.float64),
        gram=None,
        output_max_abs=(1.0,),
    )


def product(
    codes, scales, channel_scales, activation: ActivationScale | None = None, *, lower_bound: float | None = None
) -> Int8Matmul:
    return Int8Matmul(
        codes=np.array(codes, np.int8),
        scales=np.array(scales, np.float32),
        format=ActivationFormat(activation=activation, lower_bound=lower_bound),
        channel_scales=np.array(channel_scales, np.float32),
    )


def test_pieces_of_rows_are_the_dequantized_weight(monkeypatch):
    monkeypatch.setattr(matmul, "_PIECE", 4)
    whole = product([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]], [0.1, 0.2, 0.3, 0.4, 0.5], [1, 2])
    pieces = list(whole.dequantize_pieces())
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(pieces), whole.dequantize())


def test_codes_scales_and_smoothing_by_hand():
    [actual] = quantize_products(reaching(16, 1), [WEIGHT], static=True, strength=0.5)
    assert actual.channel_scales.tolist() == [2.0, 1.0]  # sqrt(16 / 4), sqrt(1 / 1)
    assert actual.codes.tolist() == [[-127, 16]]  # -8 and 1 of 8 / 127
    assert actual.scales.tolist() == [pytest.approx(8 / 127)]
    fixed = actual.format.activation
    assert fixed is not None
    assert (fixed.scale, fixed.zero_point, fixed.dtype) == (pytest.approx(8 / 127), 0, "int8")  # 16 / 2


def test_a_scale_of_the_input_that_is_found_at_run_time_is_none():
    [actual] = quantize_products(reaching(16, 1), [WEIGHT], static=False, strength=0.5)
    assert actual.format.activation is None


def test_weights_with_one_input_round_it_alike():
    first, second = quantize_products(reaching(16, 1), [WEIGHT, 3 * WEIGHT], static=True, strength=0.5)
    assert first.format == second.format
    assert first.channel_scales is second.channel_scales


@pytest.mark.parametrize(("fit_pairs", "codes"), [(True, [64, 64]), (False, [127, 127])])
def test_pairs_of_codes_fit_unless_they_need_not(fit_pairs, codes):
    alike = np.array([[1.0, 4.0]], np.float32)
    [actual] = quantize_products(reaching(4, 1), [alike], static=True, strength=0.5, fit_pairs=fit_pairs)
    assert actual.channel_scales.tolist() == [2.0, 0.5]  # sqrt(4 / 1), sqrt(1 / 4): both become 2
    assert actual.codes.tolist() == [codes]


def test_what_stands_for_the_weight_is_without_its_smoothing():
    assert product([[127, -64]], [0.01], [1, 2]).dequantize().tolist() == [[pytest.approx(1.27), pytest.approx(-0.32)]]


def test_a_fixed_scale_rounds_and_clips_the_input():
    fixed = ActivationScale(scale=0.5, zero_point=0, dtype="int8")
    actual = product([[1, 1]], [1], [1, 2], fixed).round_input(torch.tensor([[0.7, 2.6], [1000.0, -1000.0]]))
    assert actual.tolist() == [[0.5, 3.0], [63.5, -128.0]]  # 127 steps up, 128 down; the second channel in steps of 1


def test_each_token_has_its_own_scale_at_run_time():
    tokens = torch.tensor([[[127.0, 1.4]], [[-0.127, 0.0014]], [[0.0, 0.0]]])
    actual = product([[1, 1]], [1], [1, 1]).round_input(tokens)
    np.testing.assert_allclose(actual, [[[127.0, 1.0]], [[-0.127, 0.001]], [[0.0, 0.0]]], rtol=1e-5)


def test_above_a_bound_all_codes_are_for_what_lies_there():
    bounded = product([[1, 1]], [1], [1, 1], lower_bound=-1.0)
    actual = bounded.round_input(torch.tensor([[254.0, 0.4], [-1.0, 1.55], [-1.0, -3.0]]))
    # In steps of 1 from -1, of 0.01, and nothing above it; what is below is taken for it.
    np.testing.assert_allclose(actual, [[254.0, 0.0], [-1.0, 1.55], [-1.0, -1.0]], atol=1e-5)
    never_negative = product([[1, 1]], [1], [1, 2], lower_bound=0.0)
    np.testing.assert_allclose(never_negative.round_input(torch.tensor([[255.0, 0.9]])), [[255.0, 0.0]])
    np.testing.assert_allclose(never_negative.round_input(torch.tensor([[255.0, 1.1]])), [[255.0, 2.0]])


def test_channels_are_smoothed_before_they_are_rounded():
    actual = product([[1, 1]], [1], [100, 1]).round_input(torch.tensor([[12700.0, 1.4]]))
    np.testing.assert_allclose(actual, [[12700.0, 1.0]], rtol=1e-5)


def test_channels_of_one_row_are_smoothed_alike():
    feeder = Feeder(name="value", rows=np.array([0, 0]))
    [actual] = quantize_products(reaching(16, 1), [WEIGHT], static=True, strength=0.5, feeder=feeder)
    assert actual.channel_scales is not None
    assert actual.channel_scales.tolist() == [1.5, 1.5]  # of 2 and 1


def test_statistics_without_a_usable_range_name_the_layer():
    with pytest.raises(ActivationError, match=r"layers\.0\.down"):
        quantize_products(reaching(np.nan, 1), [WEIGHT], static=True, strength=0.5)


def test_a_model_with_emulated_products_is_as_before_afterwards():
    model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False))
    model.requires_grad_(False)
    before, x = model[0].weight.clone(), torch.tensor([[0.7, 2.6]])
    truth = model(x)
    fixed = ActivationScale(scale=0.5, zero_point=0, dtype="int8")
    with pytest.raises(RuntimeError, match="stop"), emulated(model, {"0": product([[2, 3]], [1], [1, 1], fixed)}):
        assert model(x).item() == 2 * 0.5 + 3 * 2.5
        raise RuntimeError("stop")
    assert torch.equal(model[0].weight, before)
    assert torch.equal(model(x), truth)
