from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.passes.lower_matmul_nbits import count_places, lower_matmul_nbits, pack_nibbles
from jisu.exporter.passes.quantize_weights import quantize_weights
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names
from tests.exporter.passes.test_quantize_weights import FEEDS, FORMATS, IDS, projection, quantized

# int8 activations: each block of x is rounded to 1/127 of its largest element, which adds up to about 1 % of y.
ROUNDED_ACTIVATIONS = 0.12


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_the_operator_computes_the_same_product(form):
    weight, draft = noise(8, 32), Draft()
    model = draft.model(y=projection(draft, weight, "w"))
    quantize_weights(model.graph, quantized={"w": quantized(weight, form)}, target="portable")
    before, names = run(copied(model), FEEDS)["y"], signature_names(model)
    assert count_places(model.graph) == 1
    assert lower_matmul_nbits(model.graph) == 1
    assert operators(model) == {"MatMulNBits": 1}
    assert signature_names(model) == names
    error = np.abs(run(model, FEEDS)["y"] - before).max()
    assert error < ROUNDED_ACTIVATIONS, error
    assert lower_matmul_nbits(model.graph) == 0


def test_whole_number_activations_give_exactly_the_same_product():
    weight, draft = noise(8, 32), Draft()
    model = draft.model(y=projection(draft, weight, "w"))
    quantize_weights(model.graph, quantized={"w": quantized(weight, FORMATS[3])}, target="portable")
    # Blocks with a largest element of 127 are not rounded: every difference would be one of the weights.
    x = np.random.default_rng(0).integers(-127, 128, (1, 2, 32)).astype(np.float32)
    x[..., ::16] = 127
    before = run(copied(model), {"x": x})["y"]
    lower_matmul_nbits(model.graph)
    np.testing.assert_allclose(run(model, {"x": x})["y"], before, rtol=1e-5, atol=1e-3)


def test_the_lower_index_lies_in_the_low_half_of_a_byte():
    codes = np.array([[1, 2, 3, 15], [0, 9, 8, 7]], dtype=np.uint8)
    assert pack_nibbles(codes).tolist() == [[0x21, 0xF3], [0x90, 0x78]]
    assert pack_nibbles(np.array([[5, 6, 7]], dtype=np.uint8)).tolist() == [[0x65, 0x07]]


def test_a_float_weight_stays():
    draft = Draft()
    model = draft.model(y=projection(draft, noise(8, 32), "w"))
    assert (count_places(model.graph), lower_matmul_nbits(model.graph)) == (0, 0)


def test_a_weight_with_one_scale_per_row_stays():
    draft = Draft()
    x, codes = draft.input("x", "B", "T", 32), draft.weight(np.ones((32, 8)), "codes")
    integers = draft.op("Cast", codes, to=3)
    weight = draft.op("DequantizeLinear", integers, draft.weight(np.ones(8)), dims=[32, 8], axis=1)
    model = draft.model(y=draft.op("MatMul", x, weight, dims=["B", "T", 8]))
    assert (count_places(model.graph), lower_matmul_nbits(model.graph)) == (0, 0)
