from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.calibration.weights.formats import ROW, BlockFormat
from jisu.calibration.weights.grid import find_grid
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.graph.merge_weights import concat_weights
from jisu.exporter.passes.lower_matmul_nbits import lower_matmul_nbits
from jisu.exporter.passes.quantize_weights import count_places, quantize_weights
from tests.exporter.passes.draft import Draft, noise, operators, run, signature_names

FORMATS = [BlockFormat(bits=bits, block_size=16, symmetric=symmetric) for bits in (4, 8) for symmetric in (True, False)]
IDS = [f"{form.bits}-bit {'symmetric' if form.symmetric else 'asymmetric'}" for form in FORMATS]
FEEDS = {"x": noise(2, 3, 32), "ids": np.array([[1, 0, 4], [2, 2, 3]])}


def quantized(weight: np.ndarray, form: BlockFormat):
    """A weight [N, K] in integers."""
    return round_to_nearest(weight, form, layer="test")


def projection(draft: Draft, weight: np.ndarray, name: str) -> ir.Value:
    """x @ weight.T with the weight stored [K, N]."""
    x = draft.inputs[0] if draft.inputs else draft.input("x", "B", "T", weight.shape[1])
    return draft.op("MatMul", x, draft.weight(weight.T, name), dims=["B", "T", weight.shape[0]])


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_a_product_reads_the_dequantized_weight(form):
    weight, draft = noise(8, 32), Draft()
    model = draft.model(y=projection(draft, weight, "w"))
    names, integers = signature_names(model), {"w": quantized(weight, form)}
    assert count_places(model.graph, quantized=integers) == 1
    assert quantize_weights(model.graph, quantized=integers, target="portable") == 1
    assert operators(model) == {"DequantizeLinear": 1, "MatMul": 1}
    assert signature_names(model) == names
    truth = FEEDS["x"] @ integers["w"].dequantize().T
    # Sums of 32 products in float32, in another order than numpy's.
    np.testing.assert_allclose(run(model, FEEDS)["y"], truth, atol=1e-5)
    assert quantize_weights(model.graph, quantized=integers, target="portable") == 0


@pytest.mark.parametrize("transposed", [False, True])
def test_one_scale_a_row_has_one_axis(transposed):
    weight, draft, form = noise(8, 32), Draft(), BlockFormat(bits=8, block_size=ROW, symmetric=True)
    x = draft.input("x", "B", "T", 32)
    stored = draft.weight(weight if transposed else weight.T, "w")
    factor = draft.op("Transpose", stored, dims=[32, 8], perm=[1, 0]) if transposed else stored
    model = draft.model(y=draft.op("MatMul", x, factor, dims=["B", "T", 8]))
    integers = {"w": quantized(weight, form)}
    assert quantize_weights(model.graph, quantized=integers, target="portable") == 1
    assert list(model.graph.initializers["w.scales"].shape) == [8]
    truth = FEEDS["x"] @ integers["w"].dequantize().T
    np.testing.assert_allclose(run(model, FEEDS)["y"], truth, atol=1e-5)


def test_a_symmetric_weight_is_signed_and_has_no_zero_points():
    weight, draft = noise(8, 32), Draft()
    model = draft.model(y=projection(draft, weight, "w"))
    quantize_weights(model.graph, quantized={"w": quantized(weight, FORMATS[0])}, target="portable")
    kinds = {name: value.dtype for name, value in model.graph.initializers.items()}
    assert kinds == {"w.codes": ir.DataType.INT4, "w.scales": ir.DataType.FLOAT}


def test_a_merged_weight_is_quantized_as_its_parts():
    first, second, form, draft = noise(8, 32), noise(4, 32, seed=1), FORMATS[3], Draft()
    x = draft.input("x", "B", "T", 32)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(np.zeros((32, 12)), "hole"), dims=["B", "T", 12]))
    parts = [draft.weight(first.T, "a"), draft.weight(second.T, "b")]
    merged = concat_weights(model.graph, parts, "ab.weight")
    next(iter(model.graph)).replace_input_with(1, merged)
    integers = {"a": quantized(first, form), "b": quantized(second, form)}
    assert quantize_weights(model.graph, quantized={"a": integers["a"]}, target="portable") == 0, (
        "half of a weight is not a weight"
    )
    assert quantize_weights(model.graph, quantized=integers, target="portable") == 1
    truth = FEEDS["x"] @ np.concatenate([integers["a"].dequantize(), integers["b"].dequantize()]).T
    np.testing.assert_allclose(run(model, FEEDS)["y"], truth, atol=1e-5)


def test_parts_in_two_formats_are_refused():
    weight, draft = noise(8, 32), Draft()
    x = draft.input("x", "B", "T", 32)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(np.zeros((32, 16)), "hole"), dims=["B", "T", 16]))
    merged = concat_weights(model.graph, [draft.weight(weight.T, "a"), draft.weight(weight.T, "b")], "ab.weight")
    next(iter(model.graph)).replace_input_with(1, merged)
    integers = {"a": quantized(weight, FORMATS[0]), "b": quantized(weight, FORMATS[3])}
    with pytest.raises(ValueError, match="different formats"):
        quantize_weights(model.graph, quantized=integers, target="portable")


@pytest.mark.parametrize("form", FORMATS[2:], ids=IDS[2:])
def test_a_tied_embedding_is_stored_once_for_both_its_readers(form):
    table, draft = noise(5, 32), Draft()
    ids = draft.input("ids", "B", "T", dtype=ir.DataType.INT64)
    weight = draft.weight(table, "table")
    rows = draft.op("Gather", weight, ids, dims=["B", "T", 32], dtype=ir.DataType.FLOAT, axis=0)
    turned = draft.op("Transpose", weight, dims=[32, 5], perm=[1, 0])
    model = draft.model(y=draft.op("MatMul", rows, turned, dims=["B", "T", 5]), rows=rows)
    integers = {"table": quantized(table, form)}
    assert count_places(model.graph, quantized=integers) == 2
    assert quantize_weights(model.graph, quantized=integers, target="portable") == 2
    assert {name.split(".")[0] for name in model.graph.initializers} == {"table"}
    assert sum(name.endswith(".codes") for name in model.graph.initializers) == 1
    actual, truth = run(model, FEEDS), integers["table"].dequantize()
    np.testing.assert_array_equal(actual["rows"], truth[FEEDS["ids"]])
    np.testing.assert_allclose(actual["y"], truth[FEEDS["ids"]] @ truth.T, atol=1e-5)


def test_an_embedding_in_half_bytes_is_refused():
    draft = Draft()
    ids = draft.input("ids", "B", "T", dtype=ir.DataType.INT64)
    rows = draft.op("Gather", draft.weight(noise(5, 32), "table"), ids, dims=["B", "T", 32], dtype=ir.DataType.FLOAT)
    model = draft.model(rows=rows)
    with pytest.raises(ValueError, match="needs 8 bits"):
        quantize_weights(model.graph, quantized={"table": quantized(noise(5, 32), FORMATS[0])}, target="portable")


def test_a_weight_that_nobody_quantized_stays():
    draft = Draft()
    model = draft.model(y=projection(draft, noise(8, 32), "w"))
    assert count_places(model.graph, quantized={}) == 0
    assert (
        quantize_weights(model.graph, quantized={"other": quantized(noise(8, 32), FORMATS[0])}, target="portable") == 0
    )
    assert operators(model) == {"MatMul": 1}


@pytest.mark.parametrize("target", ["portable", "ort-cpu"])
def test_a_weight_with_numbers_for_the_sums_of_blocks_reads_them(target):
    steps = np.random.default_rng(0).integers(0, 16, (12, 32)).astype(np.float32)
    steps[:, ::16], steps[:, 1::16] = 0, 15
    first, second = (-0.7 + 0.5 * steps[:8]), (-0.4 + 0.25 * steps[8:])
    integers = {"a": find_grid(first, bits=4, layer="a"), "b": find_grid(second, bits=4, layer="b")}
    assert all(part is not None and part.sums == 32 for part in integers.values())
    draft = Draft()
    x = draft.input("x", "B", "T", 32)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(np.zeros((32, 12)), "hole"), dims=["B", "T", 12]))
    merged = concat_weights(model.graph, [draft.weight(first.T, "a"), draft.weight(second.T, "b")], "ab.weight")
    next(iter(model.graph)).replace_input_with(1, merged)
    assert quantize_weights(model.graph, quantized=integers, target=target) == 1
    truth = FEEDS["x"] @ np.concatenate([first, second]).T
    np.testing.assert_allclose(run(model, FEEDS)["y"], truth, atol=0.02)
    assert lower_matmul_nbits(model.graph) == 1
    assert next(node for node in model.graph if node.op_type == "MatMulNBits").attributes.get_int("K") == 64
    # Activations of 8 bits, see the tests of that pass.
    np.testing.assert_allclose(run(model, FEEDS)["y"], truth, atol=0.5)
