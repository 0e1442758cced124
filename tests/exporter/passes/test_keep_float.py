from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.graph import activation_ranges
from jisu.exporter.passes.keep_float import FLOAT32_BECAUSE, REASON, keep_float, kept_nodes
from tests.exporter.passes.draft import Draft, noise


def mlp() -> ir.Model:
    """y = relu(x @ a) @ b"""
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    first = draft.op("MatMul", x, draft.weight(noise(8, 8), "a"), name="first")
    return draft.model(y=draft.op("MatMul", draft.op("Relu", first, name="bent"), draft.weight(noise(8, 8), "b")))


def noted(model: ir.Model) -> dict[str, str]:
    return {node.outputs[0].name or "": node.meta[REASON] for node in model.graph if REASON in node.meta}


@pytest.fixture
def ranges(monkeypatch):
    """Let the measurement find what the test says."""

    def install(**actual: float) -> None:
        monkeypatch.setattr(activation_ranges, "measure_ranges", lambda graph, windows: actual)

    return install


def test_an_ordinary_product_is_not_kept():
    model = mlp()
    assert keep_float(model.graph, half="float16", target="portable", kept=frozenset(), windows=None) == 0
    assert kept_nodes(model.graph) is None


@pytest.mark.parametrize("op_type", ["Softmax", "Exp", "Pow", "RotaryEmbedding", "ReduceMean"])
def test_fragile_operators_are_kept_by_rule(op_type):
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    more = [draft.weight(np.float32(2.0))] if op_type == "Pow" else []
    model = draft.model(y=draft.op("Relu", draft.op(op_type, x, *more, name="fragile")))
    assert keep_float(model.graph, half="float16", target="portable", kept=frozenset(), windows=None) == 1
    assert list(noted(model)) == ["fragile"]
    assert f"1 {op_type}: " in (kept_nodes(model.graph) or "")
    assert keep_float(model.graph, half="float16", target="portable", kept=frozenset(), windows=None) == 0


@pytest.mark.parametrize(
    ("half", "target", "kept"),
    [("bfloat16", "ort-cuda", ["above"]), ("float16", "ort-cuda", []), ("bfloat16", "tensorrt", [])],
)
def test_what_has_no_bfloat16_kernel_on_a_gpu_is_kept_there(half, target, kept):
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    above = draft.op("Greater", x, draft.weight(np.float32(20.0)), dtype=ir.DataType.BOOL, name="above")
    model = draft.model(y=draft.op("Where", above, x, draft.op("Relu", x)))
    assert keep_float(model.graph, half=half, target=target, kept=frozenset(), windows=None) == len(kept)
    assert list(noted(model)) == kept


def test_what_is_computed_from_positions_alone_is_kept():
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    ids = draft.input("ids", "B", "T", dtype=ir.DataType.INT64)
    place = draft.op("Cast", ids, dtype=ir.DataType.FLOAT, to=1, name="place")
    angle = draft.op("Mul", place, draft.weight(np.float32(0.1)), name="angle")
    rows = draft.op("Gather", draft.weight(noise(4, 8), "table"), ids, dims=["B", "T", 8], axis=0, name="rows")
    model = draft.model(y=draft.op("Neg", draft.op("Add", x, angle, name="biased")), z=rows)
    keep_float(model.graph, half="bfloat16", target="portable", kept=frozenset(), windows=None)
    # An embedding is no arithmetic of positions, and what follows on an operator that brings them in is none any more.
    assert set(noted(model)) == {"place", "angle", "biased"}


def test_what_comes_near_the_largest_number_is_kept_with_its_neighbours(ranges):
    ranges(first=17000.0, bent=16000.0, y=3.0)
    model = mlp()
    assert keep_float(model.graph, half="float16", windows=[], target="portable", kept=frozenset()) == 2
    assert set(noted(model)) == {"first", "bent"}
    first = next(iter(model.graph))
    assert first.metadata_props[FLOAT32_BECAUSE] == "first reaches 1.7e+04, above 16376 on calibration text"
    assert "1 MatMul, 1 Relu from" in (kept_nodes(model.graph) or "")


def test_bfloat16_has_the_range_of_float32(ranges):
    ranges(first=1e9, bent=1e9, y=1e9)
    assert keep_float(mlp().graph, half="bfloat16", windows=[], target="portable", kept=frozenset()) == 0


@pytest.mark.parametrize("peak", [math.nan, math.inf])
def test_activations_that_are_not_finite_are_an_error_that_names_the_place(ranges, peak):
    ranges(first=1.0, bent=peak, y=math.nan)
    with pytest.raises(InputError, match="not finite, first in bent") as caught:
        keep_float(mlp().graph, half="float16", windows=[], target="portable", kept=frozenset())
    assert f"{peak} in bent (Relu)" in str(caught.value)


def test_an_infinity_that_a_mask_brings_in_is_none(ranges):
    ranges(masked=math.inf, y=1.0)
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    masked = draft.op("Add", x, draft.weight(np.float32(-np.inf)), name="masked")
    model = draft.model(y=draft.op("Softmax", masked))
    assert keep_float(model.graph, half="float16", windows=[], target="portable", kept=frozenset()) == 2


def test_a_kept_weight_keeps_its_product():
    model = mlp()
    assert keep_float(model.graph, half="float16", kept={"b"}, target="portable", windows=None) == 1
    assert noted(model) == {"y": "b is kept"}


def test_a_weight_that_the_format_cannot_hold_keeps_its_product():
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(noise(8, 8) * 1e6, "w")))
    assert keep_float(model.graph, half="float16", target="portable", kept=frozenset(), windows=None) == 1
    assert "w reaches" in noted(model)["y"]
    assert keep_float(mlp().graph, half="bfloat16", target="portable", kept=frozenset(), windows=None) == 0


def test_a_tied_table_is_kept_for_all_its_readers(ranges):
    ranges(rows=1.0, y=20000.0)
    draft = Draft()
    ids = draft.input("ids", "B", "T", dtype=ir.DataType.INT64)
    table = draft.weight(noise(64, 32), "table")
    rows = draft.op("Gather", table, ids, dims=["B", "T", 32], axis=0, name="rows")
    turned = draft.op("Transpose", table, dims=[32, 64], perm=[1, 0], name="turned")
    model = draft.model(y=draft.op("MatMul", rows, turned, dims=["B", "T", 64]))
    assert keep_float(model.graph, half="float16", windows=[], target="portable", kept=frozenset()) == 3


def test_both_ends_of_a_state_are_kept_together(ranges):
    ranges(new=20000.0)
    draft = Draft()
    x = draft.input("x", "B", 1, "T", 8)
    past = draft.input("past_key_values.0.key", "B", 1, "capacity", 8)
    lengths = draft.input("past_length", "B", dtype=ir.DataType.INT64)
    new = draft.op("Relu", x, name="new")
    written = draft.op("TensorScatter", past, new, lengths, axis=2)
    model = draft.model(**{"present.0.key": written, "y": draft.op("Neg", written)})
    assert keep_float(model.graph, half="float16", windows=[], target="portable", kept=frozenset()) == 2
    assert set(noted(model)) == {"new", "present.0.key"}


@pytest.mark.parametrize(("scale", "kept"), [(0.5, 0), (0.1, 1), (1e-7, 1)])
def test_scales_that_half_does_not_hold_exactly_stay_float32(scale, kept):
    draft = Draft()
    codes = ir.tensor(np.ones((8, 4), np.int8), name="codes")
    stored = ir.Value(name="codes", type=ir.TensorType(codes.dtype), shape=ir.Shape([8, 4]), const_value=codes)
    draft.weights.append(stored)
    weight = draft.op("DequantizeLinear", stored, draft.weight(scale), dtype=ir.DataType.FLOAT, name="weight")
    model = draft.model(y=draft.op("MatMul", draft.input("x", "B", 8), weight, dims=["B", 4]))
    assert keep_float(model.graph, half="float16", target="portable", kept=frozenset(), windows=None) == kept
    assert list(noted(model)) == ["weight"] * kept
