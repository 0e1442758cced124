from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.half import mixed_types
from jisu.exporter.passes.compute_half import compute_half, count_places, note
from jisu.exporter.passes.keep_float import keep_float
from tests.exporter.passes.draft import Draft, noise, operators, run

FEEDS = {"x": noise(2, 3, 8)}


def with_softmax() -> ir.Model:
    """logits = softmax(x @ a) * 2 + 2"""
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    two = draft.weight(np.float32(2.0), "two")
    weights = draft.op("Softmax", draft.op("MatMul", x, draft.weight(noise(8, 8), "a")), axis=-1)
    return draft.model(logits=draft.op("Add", draft.op("Mul", weights, two), two))


def test_operators_are_half_and_casts_stand_where_the_type_changes():
    model, truth = with_softmax(), run(with_softmax(), FEEDS)["logits"]
    keep_float(model.graph, half="float16", target="portable", kept=frozenset(), windows=None)
    assert "1 Softmax" in (note(model.graph) or "")
    assert count_places(model.graph) == 3
    assert compute_half(model.graph, half="float16") == 3
    # x to half, into the softmax and out of it, and the logits
    assert operators(model) == {"Cast": 4, "MatMul": 1, "Softmax": 1, "Mul": 1, "Add": 1}
    assert mixed_types(model.graph) == []
    (logits,) = model.graph.outputs
    assert (logits.name, logits.dtype) == ("logits", ir.DataType.FLOAT)
    assert {value.dtype for value in model.graph.initializers.values()} == {ir.DataType.FLOAT16}
    # Numbers of about 3 with 11 digits, after four roundings.
    np.testing.assert_allclose(run(model, FEEDS)["logits"], truth, atol=8e-3)
    assert compute_half(model.graph, half="float16") == 0
    assert count_places(model.graph) == 0


def test_a_constant_that_both_kinds_read_is_stored_in_both_types():
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    two = draft.weight(np.float32(2.0), "two")
    model = draft.model(y=draft.op("Add", draft.op("Pow", x, two), two))
    keep_float(model.graph, half="float16", target="portable", kept=frozenset(), windows=None)
    compute_half(model.graph, half="float16")
    kinds = {name: value.dtype for name, value in model.graph.initializers.items()}
    assert kinds == {"two": ir.DataType.FLOAT, "two.half": ir.DataType.FLOAT16}
    assert mixed_types(model.graph) == []
    np.testing.assert_allclose(run(model, FEEDS)["y"], FEEDS["x"] ** 2 + 2, rtol=2e-3)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_a_state_becomes_half_at_both_ends(half):
    draft = Draft()
    x = draft.input("x", "B", 1, "T", 8)
    past = draft.input("past_key_values.0.key", "B", 1, "capacity", 8)
    lengths = draft.input("past_length", "B", dtype=ir.DataType.INT64)
    size = draft.op("Shape", past, dims=[1], dtype=ir.DataType.INT64, start=2, end=3)
    written = draft.op("TensorScatter", past, x, lengths, axis=2)
    model = draft.model(**{"present.0.key": written, "y": draft.op("Neg", written), "size": size})
    keep_float(model.graph, half=half, target="portable", kept=frozenset(), windows=None)
    assert compute_half(model.graph, half=half) == 2
    expected = ir.DataType[half.upper()]
    assert (past.dtype, written.dtype) == (expected, expected)
    assert [value.dtype for value in model.graph.outputs] == [expected, ir.DataType.FLOAT, ir.DataType.INT64]
    assert operators(model)["Cast"] == 2, "the new tokens and y; reading a shape needs none"


def test_attention_takes_its_softmax_in_float32():
    draft = Draft()
    query = draft.input("q", "B", 2, "T", 8)
    model = draft.model(y=draft.op("Attention", query, query, query, scale=0.3))
    compute_half(model.graph, half="float16")
    (node,) = (node for node in model.graph if node.op_type == "Attention")
    assert node.attributes.get_int("softmax_precision") == 1


def test_integers_are_left_alone():
    draft = Draft()
    ids = draft.input("ids", "B", "T", dtype=ir.DataType.INT64)
    model = draft.model(y=draft.op("Add", ids, draft.weight([1])))
    assert count_places(model.graph) == 0
    assert compute_half(model.graph, half="float16") == 0


def test_a_branch_is_refused():
    draft, inner = Draft(), Draft()
    flag = draft.input("flag", dtype=ir.DataType.BOOL)
    x = draft.input("x", "B", "T", 8)
    branch = inner.model(z=inner.op("Relu", x)).graph
    chosen = draft.op("If", flag, dims=["B", "T", 8], dtype=ir.DataType.FLOAT, then_branch=branch, else_branch=branch)
    model = draft.model(y=draft.op("Add", chosen, x))
    with pytest.raises(InputError, match="A graph with If"):
        compute_half(model.graph, half="float16")


def test_what_an_encoder_writes_is_half_on_both_sides_whoever_reads_it():
    name = "encoder_state.0.key"
    writer, reader = Draft(), Draft()
    # A softmax stays in float32: its result is rounded where it leaves, and widened where it is read.
    x = writer.input("x", "B", "source", 8)
    model = writer.model(**{name: writer.op("Softmax", writer.op("Mul", x, x), axis=-1)})
    state = reader.input(name, "B", "source", 8)
    other = reader.model(logits=reader.op("Softmax", reader.op("Mul", state, state), axis=-1))
    for made in (model, other):
        keep_float(made.graph, half="float16", target="portable", kept=frozenset(), windows=None)
        compute_half(made.graph, half="float16")
        assert mixed_types(made.graph) == []
    (written,), (read,) = model.graph.outputs, other.graph.inputs
    assert (written.name, written.dtype) == (read.name, read.dtype) == (name, ir.DataType.FLOAT16)
