from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.calibration.weights.half_scales import round_scales
from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
from jisu.exporter.passes.lower_matmul_nbits import lower_matmul_nbits
from jisu.exporter.passes.lower_quantized_embedding import lower_quantized_embedding
from jisu.exporter.passes.quantize_weights import quantize_weights
from jisu.exporter.passes.recipes import RECIPES
from jisu.exporter.passes.store_half_scales import count_places, store_half_scales
from jisu.exporter.quantization.weight_formats import scale_bytes
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names, tied_embedding
from tests.exporter.passes.test_quantize_weights import FORMATS, IDS, projection, quantized

ROWS, FEATURES = 64, 256
FEEDS = {"x": noise(2, 3, FEATURES), "ids": np.array([[1, 0, 4], [2, 2, 3]])}


def lowered(form=FORMATS[0], *, halved: bool = True) -> ir.Model:
    """A product of x with a weight [64, 256] whose scales two bytes hold, unless not wanted."""
    weight, draft = noise(ROWS, FEATURES), Draft()
    value = quantized(weight, form)
    value = round_scales(value) if halved else value
    model = draft.model(y=projection(draft, weight, "w"))
    quantize_weights(model.graph, quantized={"w": value}, target="portable")
    lower_matmul_nbits(model.graph)
    return model


def optimized(model: ir.Model) -> np.ndarray:
    """The result as users get it, with the runtime's own optimizations."""
    onnxruntime = import_onnxruntime()
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {item.name: FEEDS[item.name] for item in session.get_inputs()})[0]


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_the_product_is_the_same_to_the_last_bit(form):
    model = lowered(form)
    before, names = optimized(copied(model)), signature_names(model)
    assert count_places(model.graph) == 1
    assert store_half_scales(model.graph) == 1
    assert operators(model) == {"Cast": 1, "Identity": 1, "MatMulNBits": 1}
    assert signature_names(model) == names
    assert ir.DataType.FLOAT16 in {value.dtype for value in model.graph.initializers.values()}
    np.testing.assert_array_equal(optimized(copied(model)), before)
    assert (count_places(model.graph), store_half_scales(model.graph)) == (0, 0)


def test_without_the_optimizations_that_fold_the_cast_the_product_still_is_right():
    model = lowered()
    before = run(copied(model), FEEDS)["y"]
    store_half_scales(model.graph)
    after = run(model, FEEDS)["y"]
    assert np.abs(before).max() > 1
    # The runtime rounds activations to 8 bits in the one and not in the other.
    assert np.abs(after - before).max() < 0.02 * np.abs(before).max()


def test_scales_that_would_change_stay():
    model = lowered(halved=False)
    assert (count_places(model.graph), store_half_scales(model.graph)) == (0, 0)


def test_scales_of_a_few_blocks_stay():
    weight, draft = noise(8, 32), Draft()
    model = draft.model(y=projection(draft, weight, "w"))
    quantize_weights(model.graph, quantized={"w": round_scales(quantized(weight, FORMATS[0]))}, target="portable")
    lower_matmul_nbits(model.graph)
    assert (count_places(model.graph), store_half_scales(model.graph)) == (0, 0)


def test_a_table_that_is_read_twice_is_cast_once():
    table, draft = noise(ROWS, FEATURES), Draft()
    rows, product = tied_embedding(draft, table)
    model = draft.model(rows=rows, y=product)
    form = next(form for form in FORMATS if form.bits == 8)
    quantize_weights(model.graph, quantized={"w": round_scales(quantized(table, form))}, target="ort-cpu")
    lower_matmul_nbits(model.graph)
    lower_quantized_embedding(model.graph)
    before = run(copied(model), FEEDS)
    assert store_half_scales(model.graph) == 1
    assert operators(model) == {"Cast": 1, "Identity": 1, "GatherBlockQuantized": 1, "MatMulNBits": 1}
    np.testing.assert_array_equal(run(model, FEEDS)["rows"], before["rows"])


@pytest.mark.parametrize("target", ["ort-cpu", "portable"])
def test_sizes_are_estimated_for_what_the_recipe_does(target):
    halved = any(step.name == "store_half_scales" for step in RECIPES[target, "int8"])
    assert scale_bytes(target) == (2 if halved else 4)
