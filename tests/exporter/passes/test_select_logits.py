from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.passes.select_logits import select_logits
from tests.exporter.passes.draft import Draft, copied, noise, operators, run

VOCAB, HIDDEN = 7, 4
IDS = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 0, 1]])


def drafted(between=lambda draft, hidden: hidden, *, after=lambda draft, logits: logits, extra=False):
    """embedding -> mixing over the tokens -> ``between`` -> projection -> ``after``."""
    draft = Draft()
    ids = draft.input("input_ids", "B", "T", dtype=ir.DataType.INT64)
    draft.input("past_length", "B", dtype=ir.DataType.INT64)
    hidden = draft.op(
        "Gather", draft.weight(noise(9, HIDDEN), "table"), ids, dims=["B", "T", HIDDEN], dtype=ir.DataType.FLOAT
    )
    mixed = draft.op("CumSum", hidden, draft.weight(1))
    last = between(draft, mixed)
    logits = draft.op("MatMul", last, draft.weight(noise(HIDDEN, VOCAB), "head"), dims=["B", "T", VOCAB])
    outputs = {"logits": after(draft, logits)}
    if extra:
        outputs["hidden"] = draft.op("Neg", last)
    return draft.model(**outputs)


def feed_forward(draft, hidden):
    up = draft.op("MatMul", hidden, draft.weight(noise(HIDDEN, 8, seed=2), "up"), dims=["B", "T", 8])
    down = draft.op(
        "MatMul", draft.op("Relu", up), draft.weight(noise(8, HIDDEN, seed=3), "down"), dims=["B", "T", HIDDEN]
    )
    return draft.op("Add", hidden, down)


def norm(draft, hidden):
    return draft.op("RMSNormalization", hidden, draft.weight(noise(HIDDEN), "w"), axis=-1, epsilon=1e-5)


def norm_over_tokens(draft, hidden):
    return draft.op("LayerNormalization", hidden, draft.weight(np.ones(1)), axis=1, epsilon=1e-5)


def capped(draft, logits):
    return draft.op(
        "Mul", draft.op("Tanh", draft.op("Div", logits, draft.weight(np.float32(9.0)))), draft.weight(np.float32(9.0))
    )


def feeds(positions=None):
    actual = {"input_ids": IDS, "past_length": np.zeros(2, dtype=np.int64)}
    return actual if positions is None else {**actual, "logits_positions": np.array(positions)}


@pytest.mark.parametrize("between", [lambda draft, hidden: hidden, feed_forward, norm])
@pytest.mark.parametrize("after", [lambda draft, logits: logits, capped])
def test_the_wanted_rows_are_those_of_all_logits(between, after):
    model = drafted(between, after=after)
    whole = run(copied(model), feeds())["logits"]
    assert select_logits(model.graph) == 1
    assert [value.name for value in model.graph.inputs] == ["input_ids", "past_length", "logits_positions"]
    assert [value.name for value in model.graph.outputs] == ["logits"]
    # A product of fewer rows may be summed in another order.
    close = {"atol": 1e-5}
    np.testing.assert_allclose(run(model, feeds())["logits"], whole[:, -1:], **close)
    np.testing.assert_allclose(run(model, feeds([[0, 3]]))["logits"], whole[:, [0, 3]], **close)
    np.testing.assert_allclose(run(model, feeds([[0, 1, 2, 3, 4]]))["logits"], whole, **close)
    np.testing.assert_allclose(
        run(model, feeds([[-2], [1]]))["logits"], np.stack([whole[0, -2:-1], whole[1, 1:2]]), **close
    )
    assert select_logits(model.graph) == 0


def rows_of(model, op_type):
    return [list(node.outputs[0].shape)[1] for node in model.graph if node.op_type == op_type]


def test_what_only_the_logits_read_is_computed_for_the_wanted_tokens():
    model = drafted(feed_forward)
    select_logits(model.graph)
    assert {str(dim) for dim in rows_of(model, "MatMul")} == {"K"}
    assert {str(dim) for dim in rows_of(model, "CumSum")} == {"T"}
    assert operators(model)["GatherND"] == 1


def test_hidden_states_that_are_an_output_too_keep_every_token():
    model = drafted(feed_forward, extra=True)
    before = run(copied(model), feeds())
    assert select_logits(model.graph) == 1
    after = run(model, feeds())
    assert after["hidden"].shape == before["hidden"].shape
    np.testing.assert_allclose(after["hidden"], before["hidden"], atol=1e-5)
    np.testing.assert_allclose(after["logits"], before["logits"][:, -1:], atol=1e-5)


def test_a_norm_over_the_tokens_needs_all_of_them():
    model = drafted(norm_over_tokens)
    whole = run(copied(model), feeds())["logits"]
    assert select_logits(model.graph) == 1
    np.testing.assert_allclose(run(model, feeds())["logits"], whole[:, -1:], atol=1e-5)


def test_logits_that_nothing_projects_are_chosen_when_they_are_finished():
    draft = Draft()
    ids = draft.input("input_ids", "B", "T", dtype=ir.DataType.INT64)
    logits = draft.op(
        "Gather", draft.weight(noise(9, VOCAB), "table"), ids, dims=["B", "T", VOCAB], dtype=ir.DataType.FLOAT
    )
    model = draft.model(logits=logits)
    whole = run(copied(model), {"input_ids": IDS})["logits"]
    assert select_logits(model.graph) == 1
    assert [value.name for value in model.graph.outputs] == ["logits"]
    np.testing.assert_array_equal(run(model, {"input_ids": IDS})["logits"], whole[:, -1:])
    chosen = run(model, {"input_ids": IDS, "logits_positions": np.array([[0, 2], [1, -2]])})["logits"]
    np.testing.assert_array_equal(chosen, np.stack([whole[0, [0, 2]], whole[1, [1, -2]]]))
    assert select_logits(model.graph) == 0
