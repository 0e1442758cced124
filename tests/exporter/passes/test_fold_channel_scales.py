from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.passes.fold_channel_scales import count_places, fold_channel_scales
from jisu.exporter.passes.quantize_weights import quantize_weights
from tests.exporter.passes.draft import Draft, noise, operators, run, signature_names

FORM = BlockFormat(bits=8, block_size=16, symmetric=False)
SCALES = np.exp(noise(32, seed=9) / 2).astype(np.float32)
FEEDS = {"x": noise(2, 3, 32)}


def scaled(weight, scales=SCALES):
    """A weight [N, K] quantized as W * s."""
    return replace(round_to_nearest(weight * scales, FORM, layer="test"), channel_scales=scales)


def norm_and_products(*names, norm=True):
    draft = Draft()
    x = draft.input("x", "B", "T", 32)
    source = x
    if norm:
        gain = draft.weight(1 + noise(32, seed=3) / 4, "gain")
        source = draft.op("RMSNormalization", x, gain, axis=-1, epsilon=1e-5)
    outputs = {
        f"y_{name}": draft.op("MatMul", source, draft.weight(noise(32, 8, seed=n), name), dims=["B", "T", 8])
        for n, name in enumerate(names)
    }
    return draft.model(**outputs)


def truth(integers, names, *, norm=True):
    x = FEEDS["x"]
    if norm:
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * (1 + noise(32, seed=3) / 4)
    return {f"y_{name}": x @ integers[name].dequantize().T for name in names}


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_a_norm_takes_the_scales_for_nothing(names):
    model = norm_and_products(*names)
    integers = {name: scaled(noise(32, 8, seed=n).T) for n, name in enumerate(names)}
    before = signature_names(model)
    assert count_places(model.graph, quantized=integers) == len(names)
    assert fold_channel_scales(model.graph, quantized=integers) == len(names)
    assert operators(model) == {"RMSNormalization": 1, "MatMul": len(names)}
    assert fold_channel_scales(model.graph, quantized=integers) == count_places(model.graph, quantized=integers) == 0
    quantize_weights(model.graph, quantized=integers, target="portable")
    assert signature_names(model) == before
    actual = run(model, FEEDS)
    for name, expected in truth(integers, names).items():
        # Scales and their inverse meet in float32 sums of 32 products.
        np.testing.assert_allclose(actual[name], expected, atol=2e-5)


@pytest.mark.parametrize("norm", [True, False])
def test_where_no_norm_can_take_them_a_product_does(norm):
    names = ("a", "b")
    model = norm_and_products(*names, norm=norm)
    # Two products of one norm with different scales, or no norm at all.
    integers = {"a": scaled(noise(32, 8, seed=0).T), "b": scaled(noise(32, 8, seed=1).T, 1 / SCALES)}
    assert fold_channel_scales(model.graph, quantized=integers) == 2
    assert operators(model)["Mul"] == 2
    quantize_weights(model.graph, quantized=integers, target="portable")
    actual = run(model, FEEDS)
    for name, expected in truth(integers, names, norm=norm).items():
        np.testing.assert_allclose(actual[name], expected, atol=2e-5)


def test_a_norm_that_something_else_reads_keeps_its_weight():
    model = norm_and_products("a", "b")
    integers = {"a": scaled(noise(32, 8, seed=0).T)}
    assert fold_channel_scales(model.graph, quantized=integers) == 1
    assert operators(model)["Mul"] == 1
    np.testing.assert_allclose(run(model, FEEDS)["y_b"], run(norm_and_products("a", "b"), FEEDS)["y_b"], atol=1e-6)


def test_weights_without_scales_stay():
    model = norm_and_products("a")
    integers = {"a": round_to_nearest(noise(32, 8).T, FORM, layer="test")}
    assert count_places(model.graph, quantized=integers) == fold_channel_scales(model.graph, quantized=integers) == 0
    assert count_places(model.graph, quantized={}) == 0


def test_products_of_one_input_share_the_product_in_front_of_them():
    model = norm_and_products("a", "b", "c", norm=False)
    other = np.exp(noise(32, seed=4) / 2).astype(np.float32)
    scales = {"a": SCALES, "b": SCALES, "c": other}
    integers = {name: scaled(noise(32, 8, seed=n).T, scales[name]) for n, name in enumerate(scales)}
    assert fold_channel_scales(model.graph, quantized=integers) == 3
    assert operators(model) == {"Mul": 2, "MatMul": 3}
    quantize_weights(model.graph, quantized=integers, target="portable")
    actual = run(model, FEEDS)
    for name, expected in truth(integers, scales, norm=False).items():
        np.testing.assert_allclose(actual[name], expected, atol=2e-5)


def test_a_weight_that_multiplies_two_inputs_has_one_factor():
    draft = Draft()
    x, weight = draft.input("x", "B", "T", 32), draft.weight(noise(32, 8, seed=0), "a")
    negative = draft.op("Neg", x)
    y, z = (draft.op("MatMul", source, weight, dims=["B", "T", 8]) for source in (x, negative))
    model = draft.model(y=y, z=z)
    integers = {"a": scaled(noise(32, 8, seed=0).T)}
    assert fold_channel_scales(model.graph, quantized=integers) == 2
    quantize_weights(model.graph, quantized=integers, target="portable")
    actual, expected = run(model, FEEDS), truth(integers, ["a"], norm=False)["y_a"]
    np.testing.assert_allclose(actual["y"], expected, atol=2e-5)
    np.testing.assert_allclose(actual["z"], -expected, atol=2e-5)
