from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.calibration.weights.formats import STORED_BITS, BlockFormat
from jisu.calibration.weights.half_scales import round_scales
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
from jisu.exporter.passes import pack_narrow_codes as module
from jisu.exporter.passes.lower_matmul_nbits import lower_matmul_nbits
from jisu.exporter.passes.lower_quantized_embedding import lower_quantized_embedding
from jisu.exporter.passes.pack_narrow_codes import count_places, pack_narrow_codes
from jisu.exporter.passes.quantize_weights import quantize_weights
from jisu.exporter.passes.store_half_scales import store_half_scales
from tests.exporter.passes.draft import Draft, copied, noise, run, signature_names, tied_embedding
from tests.exporter.passes.test_quantize_weights import projection

ROWS, FEATURES = 64, 256
FEEDS = {"x": noise(2, 3, FEATURES), "ids": np.array([[1, 0, 4], [2, 2, 3]])}


def rounded(weight: np.ndarray, bits: int, *, symmetric: bool = True, block_size: int = 32):
    form = BlockFormat(bits=bits, block_size=block_size, symmetric=symmetric, short_last_block=True)
    return round_scales(round_to_nearest(weight, form, layer="test"))


def lowered(bits: int, *, symmetric: bool = True, features: int = FEATURES):
    """A product of x with a weight [64, K] of so many bits, and its integers."""
    weight, draft = noise(ROWS, features), Draft()
    integers = {"w": rounded(weight, bits, symmetric=symmetric)}
    model = draft.model(y=projection(draft, weight, "w"))
    quantize_weights(model.graph, quantized=integers, target="portable")
    lower_matmul_nbits(model.graph)
    return model, integers


def optimized(model: ir.Model, features: int = FEATURES) -> np.ndarray:
    """The result as users get it, with the runtime's own optimizations."""
    onnxruntime = import_onnxruntime()
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": FEEDS["x"][..., :features]})[0]


def stored_bytes(model: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in model.graph.initializers.values())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", STORED_BITS)
def test_the_product_is_the_same_to_the_last_bit_and_the_file_smaller(bits, symmetric):
    model, integers = lowered(bits, symmetric=symmetric)
    before, names, size = optimized(copied(model)), signature_names(model), stored_bytes(model)
    assert count_places(model.graph, quantized=integers) == 1
    assert pack_narrow_codes(model.graph, quantized=integers) == 1
    assert signature_names(model) == names
    np.testing.assert_array_equal(optimized(copied(model)), before)
    saved = size - stored_bytes(model)
    assert 0 <= ROWS * FEATURES * (8 - bits) // 8 - saved < 64  # amounts to shift by
    assert (count_places(model.graph, quantized=integers), pack_narrow_codes(model.graph, quantized=integers)) == (0, 0)
    store_half_scales(model.graph)
    np.testing.assert_array_equal(optimized(copied(model)), before)


def test_without_the_optimizations_that_fold_them_codes_still_are_right():
    model, integers = lowered(6)
    before = run(copied(model), FEEDS)["y"]
    pack_narrow_codes(model.graph, quantized=integers)
    after = run(model, FEEDS)["y"]
    # The runtime rounds activations to 8 bits in the one and not in the other.
    assert np.abs(after - before).max() < 0.02 * np.abs(before).max()


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_that_kernels_take_stay(bits):
    model, integers = lowered(bits)
    assert (count_places(model.graph, quantized=integers), pack_narrow_codes(model.graph, quantized=integers)) == (0, 0)


def test_more_codes_than_are_put_together_at_once_stay(monkeypatch):
    model, integers = lowered(6)
    monkeypatch.setattr(module, "MOST_STORED_CODES", ROWS * FEATURES - 1)
    assert (count_places(model.graph, quantized=integers), pack_narrow_codes(model.graph, quantized=integers)) == (0, 0)


def test_a_short_last_block_is_packed_with_its_padding():
    model, integers = lowered(6, features=80)
    before = optimized(copied(model), 80)
    assert pack_narrow_codes(model.graph, quantized=integers) == 1
    np.testing.assert_array_equal(optimized(model, 80), before)


def test_a_table_that_is_read_twice_is_stored_once():
    table, draft = noise(ROWS, FEATURES), Draft()
    rows, product = tied_embedding(draft, table)
    model = draft.model(rows=rows, y=product)
    integers = {"w": rounded(table, 6)}
    quantize_weights(model.graph, quantized=integers, target="ort-cpu")
    lower_matmul_nbits(model.graph)
    lower_quantized_embedding(model.graph)
    before = run(copied(model), FEEDS)
    assert count_places(model.graph, quantized=integers) == 2
    assert pack_narrow_codes(model.graph, quantized=integers) == 2
    assert [name for name in model.graph.initializers if ".plane" in name] == ["w.codes.plane4", "w.codes.plane2"]
    np.testing.assert_array_equal(run(model, FEEDS)["rows"], before["rows"])
