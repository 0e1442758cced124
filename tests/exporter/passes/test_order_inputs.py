from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.graph.merge_weights import quantized_alike
from jisu.exporter.passes.order_inputs import count_places, order_inputs
from jisu.exporter.passes.quantize_weights import quantize_weights
from tests.exporter.passes.draft import Draft, noise, operators, run

FORM = BlockFormat(bits=8, block_size=16, symmetric=False)
ORDER = np.random.default_rng(0).permutation(32).astype(np.int64)
FEEDS = {"x": noise(2, 3, 32)}


def ordered(weight, order=ORDER):
    """A weight [N, K] quantized with its columns in another order."""
    return replace(round_to_nearest(weight[:, order], FORM, layer="test"), columns=order)


def matmuls(*names):
    draft = Draft()
    x = draft.input("x", "B", "T", 32)
    outputs = {
        f"y_{name}": draft.op("MatMul", x, draft.weight(noise(32, 8, seed=n), name), dims=["B", "T", 8])
        for n, name in enumerate(names)
    }
    return draft.model(**outputs)


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_the_input_is_gathered_once_for_all_that_read_it_in_one_order(names):
    model = matmuls(*names)
    integers = {name: ordered(noise(32, 8, seed=n).T) for n, name in enumerate(names)}
    assert count_places(model.graph, quantized=integers) == len(names)
    assert order_inputs(model.graph, quantized=integers) == len(names)
    assert operators(model) == {"Gather": 1, "MatMul": len(names)}
    assert order_inputs(model.graph, quantized=integers) == count_places(model.graph, quantized=integers) == 0
    quantize_weights(model.graph, quantized=integers, target="portable")
    actual = run(model, FEEDS)
    for name in names:
        expected = FEEDS["x"] @ integers[name].dequantize().T
        np.testing.assert_allclose(actual[f"y_{name}"], expected, atol=2e-5)  # float32 sums of 32 terms


def test_two_orders_are_two_gathers():
    model = matmuls("a", "b")
    integers = {"a": ordered(noise(32, 8).T), "b": ordered(noise(32, 8, seed=1).T, ORDER[::-1].copy())}
    assert order_inputs(model.graph, quantized=integers) == 2
    assert operators(model) == {"Gather": 2, "MatMul": 2}


def test_columns_in_their_own_order_are_left_alone():
    model = matmuls("a")
    assert order_inputs(model.graph, quantized={"a": round_to_nearest(noise(32, 8).T, FORM, layer="test")}) == 0
    assert order_inputs(model.graph, quantized={}) == 0


def test_weights_of_two_orders_are_not_merged():
    model = matmuls("a", "b")
    weights = [model.graph.initializers[name] for name in ("a", "b")]
    one = {"a": ordered(noise(32, 8).T), "b": ordered(noise(32, 8, seed=1).T)}
    assert quantized_alike(weights, one)
    assert not quantized_alike(weights, {**one, "b": ordered(noise(32, 8).T, ORDER[::-1].copy())})
    assert not quantized_alike(weights, {**one, "b": round_to_nearest(noise(32, 8).T, FORM, layer="test")})


def test_what_is_dequantized_is_in_the_features_own_order():
    weight = noise(8, 32)
    np.testing.assert_allclose(ordered(weight).dequantize(), weight, atol=0.03)  # half a step of 8 bits
