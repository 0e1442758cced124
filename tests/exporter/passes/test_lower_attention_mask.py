from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.passes.lower_attention_mask import lower_attention_mask
from jisu.exporter.passes.lower_gqa import lengths
from jisu.exporter.passes.select_logits import NEW_LENGTH, select_logits
from tests.exporter.passes.attention_draft import AttentionDraft
from tests.exporter.passes.draft import copied, noise, operators, run

VOCAB, HIDDEN = 7, 4


def drafted():
    """Logits that grow with the token's position, selected as the recipe does before."""
    draft = AttentionDraft()
    table = draft.weight(noise(9, HIDDEN), "table")
    hidden = draft.op("Gather", table, draft.input_ids, dims=["B", "T", HIDDEN], dtype=ir.DataType.FLOAT)
    number = draft.op("Cast", draft.positions, dtype=ir.DataType.FLOAT, to=1)
    hidden = draft.op("Add", hidden, draft.op("Unsqueeze", number, draft.weight([2]), dims=["B", "T", 1]))
    logits = draft.op("MatMul", hidden, draft.weight(noise(HIDDEN, VOCAB), "head"), dims=["B", "T", VOCAB])
    model = draft.model(logits=logits)
    assert select_logits(model.graph) == 1
    for name, value in zip(("seqlens", "total"), lengths(model.graph), strict=True):
        copy = ir.node("Identity", [value])
        copy.outputs[0].name, copy.outputs[0].type, copy.outputs[0].shape = name, value.type, value.shape
        model.graph.append(copy)
        model.graph.outputs.append(copy.outputs[0])
    return model


def mask_of(totals):
    totals = np.asarray(totals)
    return (np.arange(totals.max()) < totals[:, None]).astype(np.int64)


@pytest.mark.parametrize(("past", "new"), [([0], 4), ([5], 1), ([5], 3), ([3, 8, 0], 1), ([0, 0], 4)])
def test_the_mask_gives_what_the_past_length_gave(past, new):
    model = drafted()
    before = copied(model)
    assert lower_attention_mask(model.graph) == 1
    assert [value.name for value in model.graph.inputs] == ["input_ids", "attention_mask", "logits_positions"]
    ids = np.arange(new)[None] + np.arange(len(past))[:, None]
    expected = run(before, {"input_ids": ids, "past_length": np.array(past)})
    actual = run(model, {"input_ids": ids, "attention_mask": mask_of(np.array(past) + new)})
    for name in ("logits", "seqlens", "total"):
        np.testing.assert_array_equal(actual[name], expected[name])  # lengths are whole numbers
    assert lower_attention_mask(model.graph) == 0


def test_each_row_of_a_padded_prefill_has_its_own_last_token():
    model = drafted()
    lower_attention_mask(model.graph)
    ids = np.array([[1, 2, 3, 4], [5, 6, 0, 0]])
    actual = run(model, {"input_ids": ids, "attention_mask": mask_of([4, 2])})
    for row, length in enumerate((4, 2)):
        alone = run(model, {"input_ids": ids[row : row + 1, :length], "attention_mask": mask_of([length])})
        np.testing.assert_allclose(actual["logits"][row], alone["logits"][0], atol=1e-6)
    assert actual["seqlens"].tolist() == [3, 1]


def test_the_logits_declare_the_one_row_that_they_default_to():
    model = drafted()
    lower_attention_mask(model.graph)
    assert list(model.graph.outputs[0].shape)[1] == 1


def test_a_graph_without_a_past_length_is_left_alone():
    draft = AttentionDraft()
    model = draft.model(y=draft.op("Neg", draft.input_ids))
    model.graph.inputs.pop(1)
    before = operators(model)
    assert lower_attention_mask(model.graph) == 0
    assert operators(model) == before


def test_the_number_of_new_tokens_is_counted_in_the_mask():
    model = drafted()
    lower_attention_mask(model.graph)
    counted = next(node for node in model.graph if node.outputs[0].name == NEW_LENGTH)
    assert counted.op_type == "Sub"
