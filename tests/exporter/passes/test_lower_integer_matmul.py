from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.calibration.w8a8.static_activations import ActivationScale
from jisu.exporter.graph.merge_weights import marked
from jisu.exporter.passes.lower_integer_matmul import count_places, lower_integer_matmul
from jisu.exporter.passes.quantize_matmuls import quantize_matmuls
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names
from tests.exporter.passes.test_quantize_matmuls import FEEDS, FIXED, ROUNDED_BY_TOKEN, product, two_products

UNSIGNED = ActivationScale(scale=0.05, zero_point=120, dtype="uint8")


def quantized(activation: ActivationScale | None) -> ir.Model:
    first, second = noise(8, 32), noise(4, 32, seed=1)
    model = two_products(Draft(), first, second)
    quantize_matmuls(model.graph, quantized={"a": product(first, activation), "b": product(second, activation)})
    return model


@pytest.mark.parametrize("activation", [FIXED, UNSIGNED], ids=["int8", "uint8"])
def test_a_fixed_input_scale_gives_unsigned_codes_and_the_same_numbers(activation):
    model = quantized(activation)
    truth, names = run(copied(model), FEEDS), signature_names(model)
    assert count_places(model.graph) == 2
    assert lower_integer_matmul(model.graph) == 2
    assert signature_names(model) == names
    assert operators(model) == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 2}
    [quantize] = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    assert quantize.inputs[2].const_value.numpy() == (128 if activation is FIXED else 120)
    actual = run(model, FEEDS)
    for name, values in truth.items():
        # The sum is exact in integers; in float32 it was not.
        np.testing.assert_allclose(actual[name], values, rtol=1e-5, atol=1e-5)
    assert lower_integer_matmul(model.graph) == 0


def with_bias(bias: np.ndarray, *, read_elsewhere: bool = False) -> ir.Model:
    weight, draft = noise(8, 32), Draft()
    x = draft.input("x", "B", "T", 32)
    plain = draft.op("MatMul", x, draft.weight(weight.T, "a"), dims=["B", "T", 8])
    outputs = {"y": draft.op("Add", plain, draft.weight(bias, "bias"), dims=["B", "T", 8])}
    model = draft.model(**outputs, **({"plain": plain} if read_elsewhere else {}))
    quantize_matmuls(model.graph, quantized={"a": product(weight, FIXED)})
    return model


def test_a_bias_is_added_by_the_operator():
    model = with_bias(noise(8, seed=3))
    truth = run(copied(model), FEEDS)["y"]
    assert lower_integer_matmul(model.graph) == 1
    assert operators(model) == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1}
    np.testing.assert_allclose(run(model, FEEDS)["y"], truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("near_miss", [{"bias": noise(3, 8, seed=3)}, {"bias": noise(8), "read_elsewhere": True}])
def test_what_is_no_bias_or_not_the_only_reader_stays(near_miss):
    model = with_bias(**near_miss)
    truth = run(copied(model), FEEDS)
    assert lower_integer_matmul(model.graph) == 1
    assert operators(model)["Add"] == 1
    for name, values in run(model, FEEDS).items():
        np.testing.assert_allclose(values, truth[name], rtol=1e-5, atol=1e-5)


def test_the_shifted_grid_clips_where_the_signed_one_does():
    model = quantized(FIXED)
    extreme = {"x": np.array([[[1e6] * 16 + [-1e6] * 16]], np.float32)}
    truth = run(copied(model), extreme)
    lower_integer_matmul(model.graph)
    np.testing.assert_allclose(run(model, extreme)["y_a"], truth["y_a"], rtol=1e-5, atol=1e-4)


def test_a_scale_found_at_run_time_is_multiplied_with_afterwards():
    model = quantized(None)
    truth, names = run(copied(model), FEEDS), signature_names(model)
    assert count_places(model.graph) == 2
    assert lower_integer_matmul(model.graph) == 2
    assert signature_names(model) == names
    assert operators(model) == ROUNDED_BY_TOKEN | {"MatMulIntegerToFloat": 2, "Mul": 1 + 2}
    actual = run(model, FEEDS)
    for name, values in truth.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-5, atol=1e-5)
    assert lower_integer_matmul(model.graph) == 0


@pytest.mark.parametrize("activation", [FIXED, None], ids=["fixed", "found at run time"])
def test_the_operator_knows_its_parameter(activation):
    model = quantized(activation)
    lower_integer_matmul(model.graph)
    operators(model)
    assert [list(marked(node)) for node in model.graph if "MatMul" in node.op_type] == [["a"], ["b"]]


def test_a_product_of_float_weights_and_one_with_blocks_stay():
    draft = Draft()
    x = draft.input("x", "B", "T", 32)
    y = draft.op("MatMul", x, draft.weight(noise(32, 8), "w"), dims=["B", "T", 8])
    model = draft.model(y=y)
    assert count_places(model.graph) == 0
    assert lower_integer_matmul(model.graph) == 0

    model = quantized(FIXED)
    for node in model.graph:
        if node.op_type == "DequantizeLinear" and node.inputs[0].name in ("a.codes", "b.codes"):
            node.attributes["block_size"] = ir.AttrInt64("block_size", 32)
    assert count_places(model.graph) == 0


def test_an_input_that_is_rounded_twice_differently_stays():
    model = quantized(FIXED)
    [back] = [
        node for node in model.graph if node.op_type == "DequantizeLinear" and node.inputs[1].name == "x.input_scale"
    ]
    other = ir.Value(name="other", const_value=ir.tensor(np.array(0.1, np.float32), name="other"))
    model.graph.register_initializer(other)
    back.replace_input_with(1, other)
    assert count_places(model.graph) == 0
