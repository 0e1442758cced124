from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.passes.lower_matmul_nbits import lower_matmul_nbits
from jisu.exporter.passes.lower_quantized_embedding import count_places, lower_quantized_embedding
from jisu.exporter.passes.quantize_weights import quantize_weights
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names
from tests.exporter.passes.test_quantize_weights import FEEDS, FORMATS, IDS, quantized


def embedding(form, *, tied=False):
    table, draft = noise(5, 32), Draft()
    ids = draft.input("ids", "B", "T", dtype=ir.DataType.INT64)
    weight = draft.weight(table, "table")
    rows = draft.op("Gather", weight, ids, dims=["B", "T", 32], dtype=ir.DataType.FLOAT, axis=0)
    outputs = {"rows": rows}
    if tied:
        turned = draft.op("Transpose", weight, dims=[32, 5], perm=[1, 0])
        outputs["y"] = draft.op("MatMul", rows, turned, dims=["B", "T", 5])
    model = draft.model(**outputs)
    quantize_weights(model.graph, quantized={"table": quantized(table, form)}, target="portable")
    return model


@pytest.mark.parametrize("form", FORMATS[2:], ids=IDS[2:])
def test_rows_are_gathered_and_dequantized_exactly(form):
    model = embedding(form)
    before, names = run(copied(model), FEEDS)["rows"], signature_names(model)
    assert count_places(model.graph) == 1
    assert lower_quantized_embedding(model.graph) == 1
    assert operators(model) == {"GatherBlockQuantized": 1}
    assert signature_names(model) == names
    np.testing.assert_array_equal(run(model, FEEDS)["rows"], before)
    assert lower_quantized_embedding(model.graph) == 0


@pytest.mark.parametrize("form", FORMATS[2:], ids=IDS[2:])
def test_a_tied_projection_has_the_same_bytes(form):
    model = embedding(form, tied=True)
    assert (lower_matmul_nbits(model.graph), lower_quantized_embedding(model.graph)) == (1, 1)
    constants = {name: value.const_value for name, value in model.graph.initializers.items()}
    assert constants["table.codes.packed"].tobytes() == constants["table.codes.data"].tobytes()
    if not form.symmetric:
        assert "table.zero_points.packed" in constants


def test_a_dequantization_of_anything_but_gathered_rows_stays():
    draft = Draft()
    x = draft.input("x", 4, 32, dtype=ir.DataType.UINT8)
    rows = draft.op(
        "DequantizeLinear", x, draft.weight(np.ones((4, 2))), dtype=ir.DataType.FLOAT, axis=1, block_size=16
    )
    model = draft.model(rows=rows)
    assert (count_places(model.graph), lower_quantized_embedding(model.graph)) == (0, 0)
