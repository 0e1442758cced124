from __future__ import annotations

import onnx_ir as ir
import pytest

from jisu.exporter.passes.merge_attention_heads import count_places, merge_attention_heads
from tests.exporter.passes.draft import Draft, copied, noise, operators, run

T, D = 5, 8
SWAP = [0, 2, 1, 3]


def attention(*, heads=4, kv_heads=4, size=D, masked=True, key_swap=SWAP, output_swap=SWAP, more_readers=False, **more):
    draft = Draft()
    split = {}
    for name, count, width in (("q", heads, D), ("k", kv_heads, D), ("v", kv_heads, size)):
        flat = draft.input(name, "B", "T", count * width)
        four = draft.op("Reshape", flat, draft.weight([0, 0, count, width]), dims=["B", "T", count, width])
        order = key_swap if name == "k" else SWAP
        split[name] = draft.op("Transpose", four, dims=["B", count, "T", width], perm=order)
    inputs = list(split.values())
    if masked:
        inputs.append(draft.input("mask", "B", 1, "T", "T", dtype=ir.DataType.BOOL))
    output = draft.op("Attention", *inputs, dims=["B", heads, "T", size], **more)
    swapped = draft.op("Transpose", output, dims=["B", "T", heads, size], perm=output_swap)
    merged = draft.op("Reshape", swapped, draft.weight([0, 0, heads * size]), dims=["B", "T", heads * size])
    if more_readers:
        return draft.model(y=merged, heads=draft.op("Neg", output))
    return draft.model(y=merged)


def feeds(*, heads=4, kv_heads=4, size=D, masked=True):
    arrays = {
        name: noise(2, T, count * width, seed=seed)
        for seed, (name, count, width) in enumerate((("q", heads, D), ("k", kv_heads, D), ("v", kv_heads, size)))
    }
    if masked:
        seen = noise(2, 1, T, T, seed=3) > 0
        seen[..., 0] = True
        arrays["mask"] = seen
    return arrays


@pytest.mark.parametrize(
    ("shape", "more"),
    [
        ({}, {}),
        ({"masked": False}, {"scale": 0.3}),
        ({"heads": 4, "kv_heads": 2}, {"softcap": 2.0}),
        ({"heads": 4, "kv_heads": 1, "size": 16}, {}),
    ],
)
def test_attention_reads_what_lies_before_the_transposes(shape, more):
    model = attention(**shape, **more)
    before = copied(model)
    assert count_places(model.graph) == merge_attention_heads(model.graph) == 1
    inputs = feeds(**shape)
    assert (run(model, inputs)["y"] == run(before, inputs)["y"]).all()
    assert count_places(model.graph) == merge_attention_heads(model.graph) == 0


@pytest.mark.parametrize(
    "near_miss",
    [
        {"more_readers": True},
        {"key_swap": [0, 2, 3, 1]},
        {"output_swap": [0, 1, 2, 3]},
    ],
)
def test_anything_else_between_is_left_alone(near_miss):
    model = attention(**near_miss)
    assert count_places(model.graph) == merge_attention_heads(model.graph) == 0
    assert operators(model)["Transpose"] == 4


def test_keys_of_a_cache_are_left_alone():
    draft = Draft()
    query = draft.op(
        "Transpose",
        draft.op("Reshape", draft.input("q", "B", "T", 32), draft.weight([0, 0, 4, D]), dims=["B", "T", 4, D]),
        dims=["B", 4, "T", D],
        perm=SWAP,
    )
    key, value = (draft.input(name, "B", 4, "S", D) for name in "kv")
    output = draft.op("Attention", query, key, value, dims=["B", 4, "T", D])
    swapped = draft.op("Transpose", output, dims=["B", "T", 4, D], perm=SWAP)
    model = draft.model(y=draft.op("Reshape", swapped, draft.weight([0, 0, 32]), dims=["B", "T", 32]))
    assert count_places(model.graph) == merge_attention_heads(model.graph) == 0
