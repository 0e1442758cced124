from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from jisu.calibration.w8a8.matmul import ActivationFormat, Int8Matmul
from jisu.calibration.w8a8.pair_sums import quantize_pairs
from jisu.calibration.w8a8.static_activations import ActivationScale
from jisu.exporter.graph.merge_weights import concat_weights, marked
from jisu.exporter.passes.fold_channel_scales import fold_channel_scales
from jisu.exporter.passes.quantize_matmuls import count_places, quantize_matmuls
from tests.exporter.passes.draft import Draft, noise, operators, run, signature_names

FIXED = ActivationScale(scale=0.05, zero_point=0, dtype="int8")
FEEDS = {"x": noise(2, 3, 32)}
ROUNDED_BY_TOKEN = {"ReduceMax": 1, "ReduceMin": 1, "Neg": 1, "Max": 1, "Mul": 1, "Div": 1, "QuantizeLinear": 1}


def product(weight: np.ndarray, activation: ActivationScale | None) -> Int8Matmul:
    """A weight [N, K] to nearest, with codes that every CPU multiplies rightly."""
    rows = quantize_pairs(weight)
    return Int8Matmul(codes=rows.codes, scales=rows.scales, format=ActivationFormat(activation=activation))


def bounded(weight: np.ndarray, lower_bound: float) -> Int8Matmul:
    """The same, with channels smoothed and an input that is never below a number."""
    scales = 1 + np.arange(weight.shape[1], dtype=np.float32) / 16
    rows = quantize_pairs(weight * scales)
    form = ActivationFormat(activation=None, lower_bound=lower_bound)
    return Int8Matmul(codes=rows.codes, scales=rows.scales, format=form, channel_scales=scales)


def two_products(draft: Draft, first: np.ndarray, second: np.ndarray) -> ir.Model:
    """Two products of one input."""
    x = draft.input("x", "B", "T", 32)
    outputs = {
        name: draft.op("MatMul", x, draft.weight(weight.T, name), dims=["B", "T", len(weight)])
        for name, weight in {"a": first, "b": second}.items()
    }
    return draft.model(**{f"y_{name}": value for name, value in outputs.items()})


def rounded(x: np.ndarray, part: Int8Matmul) -> np.ndarray:
    """What the product makes of its input, as the emulation has it."""
    import torch

    return part.round_input(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("activation", [FIXED, None], ids=["fixed", "found at run time"])
def test_both_factors_have_8_bits_and_an_input_is_rounded_once(activation):
    first, second = noise(8, 32), noise(4, 32, seed=1)
    model = two_products(Draft(), first, second)
    names = signature_names(model)
    parts = {"a": product(first, activation), "b": product(second, activation)}
    assert count_places(model.graph, quantized=parts) == 2
    assert quantize_matmuls(model.graph, quantized=parts) == 2
    assert signature_names(model) == names
    actual = run(model, FEEDS)
    for name, part in parts.items():
        # The same integers; float32 sums in another order.
        truth = rounded(FEEDS["x"], part) @ part.dequantize().T
        np.testing.assert_allclose(actual[f"y_{name}"], truth, rtol=1e-5, atol=1e-5)
    expected = (
        {"QuantizeLinear": 1, "DequantizeLinear": 3, "MatMul": 2}
        if activation
        else ROUNDED_BY_TOKEN | {"MatMulInteger": 2, "Cast": 2, "Mul": 1 + 4}
    )
    assert operators(model) == expected
    assert quantize_matmuls(model.graph, quantized=parts) == 0


@pytest.mark.parametrize("bound", [-0.17, 0.0])
def test_an_input_with_a_lower_bound_has_all_codes_above_it(bound):
    first, second = noise(8, 32), noise(4, 32, seed=1)
    parts = {"a": bounded(first, bound), "b": bounded(second, bound)}
    feeds = {"x": np.maximum(FEEDS["x"], bound).astype(np.float32)}
    model = two_products(Draft(), first, second)
    assert fold_channel_scales(model.graph, quantized=parts) == 2
    assert quantize_matmuls(model.graph, quantized=parts) == 2
    actual = run(model, feeds)
    for name, part in parts.items():
        truth = rounded(feeds["x"], part) @ part.dequantize().T
        np.testing.assert_allclose(actual[f"y_{name}"], truth, rtol=1e-5, atol=1e-5)
        assert operators(model).get("Sub", 0) == bool(bound)
        assert operators(model).get("Add", 0) == 2 * bool(bound)
    assert "ReduceMin" not in operators(model)


@pytest.mark.parametrize("part", [product(noise(8, 32), FIXED), product(noise(8, 32), None), bounded(noise(8, 32), -9)])
def test_a_weight_that_multiplies_two_inputs_is_stored_once(part):
    draft = Draft()
    x, weight = draft.input("x", "B", "T", 32), draft.weight(noise(8, 32).T, "a")
    y, z = (draft.op("MatMul", source, weight, dims=["B", "T", 8]) for source in (x, draft.op("Neg", x)))
    model = draft.model(y=y, z=z)
    fold_channel_scales(model.graph, quantized={"a": part})
    assert quantize_matmuls(model.graph, quantized={"a": part}) == 2
    assert [name for name in model.graph.initializers if name.endswith(".codes")] == ["a.codes"]
    actual = run(model, FEEDS)
    for name, sign in (("y", 1), ("z", -1)):
        truth = rounded(sign * FEEDS["x"], part) @ part.dequantize().T
        np.testing.assert_allclose(actual[name], truth, rtol=1e-5, atol=1e-4)


def test_the_fixed_form_is_what_tensorrt_reads():
    weight = noise(8, 32)
    model = two_products(Draft(), weight, weight)
    quantize_matmuls(model.graph, quantized={"a": product(weight, FIXED), "b": product(weight, FIXED)})
    kinds = {name: (value.dtype, list(value.shape)) for name, value in model.graph.initializers.items()}
    assert kinds["a.codes"] == (ir.DataType.INT8, [32, 8])
    assert kinds["a.scales"] == (ir.DataType.FLOAT, [8])
    assert kinds["x.input_scale"] == (ir.DataType.FLOAT, [])
    assert kinds["x.input_zero_point"] == (ir.DataType.INT8, [])
    assert model.graph.initializers["x.input_zero_point"].const_value.numpy() == 0


def test_inputs_beyond_the_fixed_range_are_clipped():
    weight = np.eye(32, dtype=np.float32)
    model = two_products(Draft(), weight, weight)
    quantize_matmuls(model.graph, quantized={"a": product(weight, FIXED)})
    actual = run(model, {"x": np.full((1, 1, 32), 1e6, np.float32)})
    np.testing.assert_allclose(actual["y_a"], np.full((1, 1, 32), 127 * 0.05), rtol=1e-6)


def test_a_token_of_zeros_gives_zeros_and_no_token_sees_another():
    weight = noise(8, 32)
    model = two_products(Draft(), weight, weight)
    quantize_matmuls(model.graph, quantized={"a": product(weight, None)})
    alone = run(model, {"x": FEEDS["x"][:1, :1]})["y_a"]
    loud = np.concatenate([FEEDS["x"][:1, :1], np.full((1, 1, 32), 1e6), np.zeros((1, 1, 32))], axis=1)
    together = run(model, {"x": loud.astype(np.float32)})["y_a"]
    np.testing.assert_array_equal(together[:, :1], alone)
    np.testing.assert_array_equal(together[:, 2], np.zeros((1, 8)))


def test_a_merged_weight_is_quantized_as_its_parts_and_knows_them():
    first, second, draft = noise(8, 32), noise(4, 32, seed=1), Draft()
    x = draft.input("x", "B", "T", 32)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(np.zeros((32, 12)), "hole"), dims=["B", "T", 12]))
    merged = concat_weights(model.graph, [draft.weight(first.T, "a"), draft.weight(second.T, "b")], "ab.weight")
    next(iter(model.graph)).replace_input_with(1, merged)
    parts = {"a": product(first, FIXED), "b": product(second, FIXED)}
    assert quantize_matmuls(model.graph, quantized={"a": parts["a"]}) == 0, "half of a weight is not a weight"
    assert quantize_matmuls(model.graph, quantized=parts) == 1
    truth = np.concatenate([rounded(FEEDS["x"], part) @ part.dequantize().T for part in parts.values()], axis=2)
    np.testing.assert_allclose(run(model, FEEDS)["y"], truth, rtol=1e-5, atol=1e-5)
    [weight] = [node for node in model.graph if list(marked(node)) == ["a", "b"]]
    assert weight.op_type == "DequantizeLinear"


def test_parts_that_round_their_input_differently_are_refused():
    weight, draft = noise(8, 32), Draft()
    x = draft.input("x", "B", "T", 32)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(np.zeros((32, 16)), "hole"), dims=["B", "T", 16]))
    merged = concat_weights(model.graph, [draft.weight(weight.T, "a"), draft.weight(weight.T, "b")], "ab.weight")
    next(iter(model.graph)).replace_input_with(1, merged)
    parts = {"a": product(weight, FIXED), "b": product(weight, replace(FIXED, scale=0.1))}
    with pytest.raises(ValueError, match="differently"):
        quantize_matmuls(model.graph, quantized=parts)


def test_weights_in_blocks_and_weights_that_nobody_quantized_stay():
    from jisu.calibration.weights.formats import BlockFormat
    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    weight = noise(8, 32)
    model = two_products(Draft(), weight, weight)
    blocks = round_to_nearest(weight, BlockFormat(bits=8, block_size=32, symmetric=True), layer="a")
    assert count_places(model.graph, quantized={"a": blocks}) == 0
    assert quantize_matmuls(model.graph, quantized={"a": blocks}) == 0
    assert operators(model) == {"MatMul": 2}
