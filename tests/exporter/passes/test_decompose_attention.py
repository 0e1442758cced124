from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.passes.decompose_attention import count_places, decompose_attention, note
from tests.exporter.passes.draft import Draft, copied, noise, operators, run

T, S = 3, 7


def attention(*, heads=4, kv_heads=2, mask="bool", mask_dims=("B", 1, "T", "S"), size=8, **attributes):
    draft = Draft()
    query = draft.input("q", "B", heads, "T", 8)
    key = draft.input("k", "B", kv_heads, "S", 8)
    value = draft.input("v", "B", kv_heads, "S", size)
    inputs = [query, key, value]
    if mask is not None:
        kind = ir.DataType.BOOL if mask == "bool" else ir.DataType.FLOAT
        inputs.append(draft.input("mask", *mask_dims, dtype=kind))
    return draft.model(y=draft.op("Attention", *inputs, dims=["B", heads, "T", size], **attributes))


def feeds(*, heads=4, kv_heads=2, mask="bool", mask_sizes=(2, 1, T, S), size=8):
    actual = {
        "q": 3 * noise(2, heads, T, 8),
        "k": 3 * noise(2, kv_heads, S, 8, seed=1),
        "v": noise(2, kv_heads, S, size, seed=2),
    }
    if mask == "bool":
        seen = noise(*mask_sizes, seed=3) > 0
        seen[..., 0] = True  # a query that sees nothing has no defined result
        actual["mask"] = seen
    elif mask == "float":
        actual["mask"] = noise(*mask_sizes, seed=3)
    elif mask == "minus infinity":
        actual["mask"] = np.where(noise(*mask_sizes, seed=3) > 1, -np.inf, 0.0).astype(np.float32)
    return actual


@pytest.mark.parametrize(
    ("shape", "more"),
    [
        ({"heads": 4, "kv_heads": 2}, {"softcap": 2.0, "scale": 0.3}),
        ({"heads": 4, "kv_heads": 4}, {"softcap": 2.0}),
        ({"heads": 4, "kv_heads": 1, "size": 16}, {"softcap": 5.0}),
        ({"heads": 4, "kv_heads": 2, "mask": None}, {"softcap": 2.0}),
        ({"heads": 4, "kv_heads": 2, "mask": "float"}, {}),
        ({"heads": 4, "kv_heads": 4, "mask": "float", "per_head": True}, {}),
        ({"heads": 4, "kv_heads": 2, "mask": "float", "per_head": True}, {}),
        ({"heads": 4, "kv_heads": 2, "mask": "minus infinity"}, {"softcap": 9.0}),
    ],
)
def test_the_spelled_out_form_gives_the_same_numbers(shape, more):
    shape = dict(shape)
    per_head = shape.pop("per_head", False)
    dims, sizes = (("B", 4, "T", "S"), (2, 4, T, S)) if per_head else (("B", 1, "T", "S"), (2, 1, T, S))
    model = attention(**shape, **more, mask_dims=dims)
    before = copied(model)
    assert count_places(model.graph) == 1
    assert decompose_attention(model.graph) == 1
    assert "Attention" not in operators(model)
    inputs = feeds(**shape, mask_sizes=sizes)
    # Sums of eight and of seven terms in another order.
    np.testing.assert_allclose(run(model, inputs)["y"], run(before, inputs)["y"], atol=2e-6)
    assert decompose_attention(model.graph) == 0


def test_what_the_fused_layer_expresses_is_left_alone():
    model = attention()
    assert count_places(model.graph) == decompose_attention(model.graph) == 0
    assert note(model.graph) is None


def test_the_note_says_why():
    assert note(attention(softcap=2.0).graph) == "1 attentions decomposed: its scores are bounded (soft cap)"
    assert note(attention(mask="float").graph) == "1 attentions decomposed: numbers are added to its scores"


def test_a_causal_one_is_left_to_the_pass_before():
    assert decompose_attention(attention(mask=None, softcap=2.0, is_causal=1).graph) == 0
