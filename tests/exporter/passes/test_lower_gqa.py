from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.contract.signature import TOKEN_TYPES
from jisu.exporter.passes.fuse_rope import fuse_rope
from jisu.exporter.passes.lower_gqa import causal_window, count_places, lower_gqa, note
from jisu.exporter.passes.remove_noops import remove_noops
from tests.exporter.passes.attention_draft import INT64, AttentionDraft
from tests.exporter.passes.draft import copied, noise, operators, run, signature_names

HEADS, KV_HEADS, SIZE, LONGEST = 4, 2, 16, 64
# Softmax and sums over up to 20 keys in another order, of values around one.
ROUNDING = 2e-6


def drafted(*, rule="causal", window=0, rotary=False, size=SIZE, softcap=0.0, past_is_input=True, **changes):
    """Attention over a cache, as the tracer writes it; ``changes`` name what is not as it should be."""
    draft = AttentionDraft()
    query = draft.input("query", "B", HEADS, "T", size)
    key, value = (draft.input(name, "B", KV_HEADS, "T", size) for name in ("key", "value"))
    pasts = [draft.input(f"past_key_values.0.{name}", "B", KV_HEADS, "capacity", size) for name in ("key", "value")]
    start = changes.get("start", lambda draft: draft.past_length)(draft)
    mask = draft.mask(pasts[0], rule, window=window)
    if rotary:
        positions = changes.get("positions", lambda draft: draft.positions)(draft)
        cos, sin = (draft.angle(function, size, positions=positions) for function in ("Cos", "Sin"))
        query, key = draft.rotated(query, size, cos=cos, sin=sin), draft.rotated(key, size, cos=cos, sin=sin)
        if changes.get("only_query"):
            key = draft.inputs[3]
    written = [
        draft.op("TensorScatter", past if past_is_input else draft.op("Neg", past), new, start, axis=2, mode="linear")
        for past, new in zip(pasts, (key, value), strict=True)
    ]
    actual = draft.op("Attention", query, *written, mask, scale=0.3, softcap=softcap)
    return draft.model(**{"y": actual, "present.0.key": written[0], "present.0.value": written[1]})


def feeds(past, new, *, capacity=24, size=SIZE):
    batch = len(past)
    rng = np.random.default_rng(len(past) + new)
    draw = lambda *sizes: rng.standard_normal(sizes).astype(np.float32)  # noqa: E731
    buffers = {name: draw(batch, KV_HEADS, capacity, size) for name in ("key", "value")}
    return {
        "input_ids": np.zeros((batch, new), dtype=np.int64),
        "past_length": np.array(past),
        "query": draw(batch, HEADS, new, size),
        "key": draw(batch, KV_HEADS, new, size),
        "value": draw(batch, KV_HEADS, new, size),
        **{f"past_key_values.0.{name}": buffer for name, buffer in buffers.items()},
    }


CALLS = {
    "prefill": feeds([0], 19),
    "prefill of a batch": feeds([0, 0, 0], 13),
    "one token on top of rows of unequal lengths": feeds([3, 20, 0], 1),
    "a chunk on top of a past": feeds([7], 12),
}


def assert_same(before, model, call, *, size=SIZE):
    expected, actual = run(before, call), run(model, call)
    np.testing.assert_allclose(actual["y"], expected["y"], atol=ROUNDING)
    for name in ("present.0.key", "present.0.value"):
        for row, length in enumerate(call["past_length"] + call["input_ids"].shape[1]):
            # Behind the valid part a buffer holds whatever it held.
            np.testing.assert_allclose(actual[name][row, :, :length], expected[name][row, :, :length], atol=ROUNDING)


@pytest.mark.parametrize(
    "options", [{}, {"softcap": 5.0}, {"rule": "window", "window": 8}, {"rule": "window", "window": 1}]
)
@pytest.mark.parametrize("call", CALLS)
def test_attention_over_a_cache_becomes_one_operator_with_the_same_numbers(call, options):
    model = drafted(**options)
    before, names = copied(model), signature_names(model)
    assert count_places(model.graph, max_positions=LONGEST) == 1
    assert note(model.graph, max_positions=LONGEST) is None
    assert lower_gqa(model.graph, max_positions=LONGEST) == 1
    actual = operators(model)
    assert actual["GroupQueryAttention"] == 1
    assert not {"Attention", "TensorScatter", "LessOrEqual"} & set(actual)
    assert signature_names(model) == names
    assert_same(before, model, CALLS[call])
    assert lower_gqa(model.graph, max_positions=LONGEST) == 0


@pytest.mark.parametrize("call", CALLS)
def test_tokens_that_see_each_other_become_a_bias_of_the_operator(call):
    """A block of each row's new tokens, and in a call of several tokens none that is only begun."""
    model = drafted(rule="typed", softcap=5.0)
    before, names = copied(model), signature_names(model)
    call = CALLS[call]
    types = np.zeros((len(call["past_length"]), 24), np.int64)
    if call["input_ids"].shape[1] > 1:
        for row, past in enumerate(call["past_length"].tolist()):
            types[row, past + 2 : past + 8 + row] = 1
    call = {**call, TOKEN_TYPES: types}
    assert count_places(model.graph, max_positions=LONGEST) == 1
    assert lower_gqa(model.graph, max_positions=LONGEST) == 1
    node = next(node for node in model.graph if node.op_type == "GroupQueryAttention")
    assert node.attributes.get_int("causal", 1) == 0
    assert signature_names(model) == names
    assert_same(before, model, call)
    assert lower_gqa(model.graph, max_positions=LONGEST) == 0
    # That the block is seen at all:
    alone = run(model, {**call, TOKEN_TYPES: np.zeros_like(types)})["y"]
    assert np.array_equal(alone, run(model, call)["y"]) == (not types.any())


@pytest.mark.parametrize("call", CALLS)
def test_the_rotation_goes_into_the_operator(call):
    model = drafted(rotary=True)
    before = copied(model)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 2
    assert lower_gqa(model.graph, max_positions=LONGEST) == 1
    assert operators(model)["RotaryEmbedding"] == 0
    assert_same(before, model, CALLS[call])


@pytest.mark.parametrize("options", [{"only_query": True}, {"size": 8}])
def test_another_rotation_than_the_operators_stays_outside(options):
    """Keys that are not rotated, heads too small for the operator's own rotation."""
    model = drafted(rotary=True, **options)
    before = copied(model)
    assert fuse_rope(model.graph, max_positions=LONGEST) >= 1
    assert lower_gqa(model.graph, max_positions=LONGEST) == 1
    node = next(node for node in model.graph if node.op_type == "GroupQueryAttention")
    assert node.attributes.get_int("do_rotary", 0) == 0
    assert_same(before, model, feeds([3, 20, 0], 1, size=options.get("size", SIZE)))


@pytest.mark.parametrize(("shift", "inside"), [(0, 1), (1, 0)])
def test_a_rotation_at_other_positions_stays_outside(shift, inside):
    model = drafted(rotary=True)
    fuse_rope(model.graph, max_positions=LONGEST)
    rotations = [node for node in model.graph if node.op_type == "RotaryEmbedding"]
    positions = rotations[0].inputs[3]
    one = ir.Value(name="one", type=positions.type, shape=ir.Shape([]), const_value=ir.tensor(np.array(1), name="one"))
    model.graph.initializers["one"] = one
    moved = ir.node("Add", [positions, one]) if shift else None
    if moved is not None:
        model.graph.insert_before(rotations[0], moved)
        for node in rotations:
            node.replace_input_with(3, moved.outputs[0])
    before = copied(model)
    assert lower_gqa(model.graph, max_positions=LONGEST) == 1
    node = next(node for node in model.graph if node.op_type == "GroupQueryAttention")
    assert node.attributes.get_int("do_rotary", 0) == inside
    assert_same(before, model, CALLS["a chunk on top of a past"])


def test_an_angle_shifted_by_one_keeps_its_numbers():
    """The shift lies in the table then, and the tokens' own positions choose its rows."""
    model = drafted(rotary=True, positions=lambda draft: draft.op("Add", draft.positions, draft.weight(1)))
    before = copied(model)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 2
    assert lower_gqa(model.graph, max_positions=LONGEST) == 1
    assert_same(before, model, CALLS["a chunk on top of a past"])


def test_a_rotation_of_four_pairs_stays_outside():
    """The operator wants tables of 8 n elements; a quarter of a head of 32 has 4."""
    draft = AttentionDraft()
    parts = [draft.input(name, "B", count, "T", 32) for name, count in (("query", 4), ("key", 2), ("value", 2))]
    pasts = [draft.input(f"past_key_values.0.{name}", "B", 2, "capacity", 32) for name in ("key", "value")]
    mask = draft.mask(pasts[0])
    cos, sin = draft.angle("Cos", 8), draft.angle("Sin", 8)
    turned = []
    for x in parts[:2]:
        first = draft.rotated(draft.sliced(x, 0, 8), 8, cos=cos, sin=sin)
        turned.append(draft.op("Concat", first, draft.sliced(x, 8, (1 << 63) - 1), dims=x.shape, axis=-1))
    written = [
        draft.op("TensorScatter", past, new, draft.past_length, axis=2)
        for past, new in zip(pasts, (turned[1], parts[2]), strict=True)
    ]
    actual = draft.op("Attention", turned[0], *written, mask, scale=0.3)
    model = draft.model(**{"y": actual, "present.0.key": written[0], "present.0.value": written[1]})
    before = copied(model)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 2
    assert lower_gqa(model.graph, max_positions=LONGEST) == 1
    assert_same(before, model, feeds([3, 20, 0], 1, size=32), size=32)


@pytest.mark.parametrize("rule", ["off by one", "sees the next", "bidirectional", "sink", "prefix", "by token"])
def test_a_mask_that_is_not_causal_stays_as_it_is(rule):
    model = drafted(rule=rule)
    before = operators(model)
    assert count_places(model.graph, max_positions=LONGEST) == 0
    assert note(model.graph, max_positions=LONGEST) == "1 attentions kept: mask is not causal"
    assert lower_gqa(model.graph, max_positions=LONGEST) == 0
    assert operators(model) == before


@pytest.mark.parametrize(
    "options",
    [
        {"past_is_input": False},
        {"size": 4},
        {"start": lambda draft: draft.op("Add", draft.past_length, draft.weight([1]))},
        {"start": lambda draft: draft.op("Neg", draft.past_length)},
    ],
)
def test_another_cache_than_the_operators_stays_as_it_is(options):
    """A past that is computed, heads of a size the kernels do not take, keys written to another place."""
    model = drafted(**options)
    assert lower_gqa(model.graph, max_positions=LONGEST) == 0
    assert operators(model)["Attention"] == 1


@pytest.mark.parametrize("size", [2, 6, 10, 20, 100])
def test_heads_that_the_operator_does_not_take_stay_and_are_noted(size):
    model = drafted(size=size)
    assert count_places(model.graph, max_positions=LONGEST) == 0
    assert note(model.graph, max_positions=LONGEST) == f"1 attentions kept: head size {size} is not a multiple of 8"
    assert lower_gqa(model.graph, max_positions=LONGEST) == 0


@pytest.mark.parametrize("options", [{"past_is_input": False}, {"start": lambda draft: draft.weight([0])}])
def test_an_attention_within_the_limits_that_is_not_lowered_is_still_asked_for(options):
    model = drafted(**options)
    assert count_places(model.graph, max_positions=LONGEST) == 1
    assert lower_gqa(model.graph, max_positions=LONGEST) == 0


@pytest.mark.parametrize("longest", [1, 2, 3, 8, 11, 10**9])
def test_very_few_or_very_many_positions_do_not_hide_a_causal_mask(longest):
    model = drafted()
    assert count_places(model.graph, max_positions=longest) == 1
    assert lower_gqa(model.graph, max_positions=longest) == 1
    node = next(node for node in model.graph if node.op_type == "GroupQueryAttention")
    assert node.attributes.get_int("local_window_size", 0) == -1


def test_keys_appended_along_another_axis_are_no_cache():
    model = drafted()
    for node in model.graph:
        if node.op_type == "TensorScatter":
            node.attributes["axis"] = ir.AttrInt64("axis", 1)
    assert lower_gqa(model.graph, max_positions=LONGEST) == 0


def test_a_circular_cache_is_left_alone():
    model = drafted()
    for node in model.graph:
        if node.op_type == "TensorScatter":
            node.attributes["mode"] = ir.AttrString("mode", "circular")
    assert lower_gqa(model.graph, max_positions=LONGEST) == 0


@pytest.mark.parametrize(
    ("rule", "window", "seen"),
    [
        ("causal", 0, LONGEST),
        ("window", 1, 1),
        ("window", 8, 8),
        ("window", LONGEST - 1, LONGEST - 1),
        ("window", 500, LONGEST),
    ],
)
def test_a_window_is_as_long_as_the_mask_says(rule, window, seen):
    draft = AttentionDraft()
    past = draft.input("past_key_values.0.key", "B", KV_HEADS, "capacity", SIZE)
    model = draft.model(y=draft.mask(past, rule, window=window))
    assert causal_window(model.graph, model.graph.outputs[0], LONGEST) == seen


@pytest.mark.parametrize(("window", "written"), [(8, 8), (LONGEST, -1), (500, -1)])
def test_a_window_longer_than_the_model_is_none(window, written):
    model = drafted(rule="window", window=window)
    assert lower_gqa(model.graph, max_positions=LONGEST) == 1
    node = next(node for node in model.graph if node.op_type == "GroupQueryAttention")
    assert node.attributes.get_int("local_window_size", 0) == written


def test_a_float_mask_is_not_looked_into():
    draft = AttentionDraft()
    past = draft.input("past_key_values.0.key", "B", KV_HEADS, "capacity", SIZE)
    number = draft.op("Cast", draft.mask(past), dtype=ir.DataType.FLOAT, to=1)
    model = draft.model(y=number)
    assert causal_window(model.graph, model.graph.outputs[0], LONGEST) is None


def test_heads_split_by_the_model_and_merged_by_the_lowering_cancel():
    draft = AttentionDraft()
    flat = {
        name: draft.input(name, "B", "T", count * SIZE)
        for name, count in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))
    }
    parts = []
    for value, count in zip(flat.values(), (HEADS, KV_HEADS, KV_HEADS), strict=True):
        four = draft.op("Reshape", value, draft.weight([0, 0, count, SIZE]), dims=["B", "T", count, SIZE])
        parts.append(draft.op("Transpose", four, dims=["B", count, "T", SIZE], perm=[0, 2, 1, 3]))
    pasts = [draft.input(f"past_key_values.0.{name}", "B", KV_HEADS, "capacity", SIZE) for name in ("key", "value")]
    mask = draft.mask(pasts[0])
    written = [
        draft.op("TensorScatter", past, new, draft.past_length, axis=2)
        for past, new in zip(pasts, parts[1:], strict=True)
    ]
    actual = draft.op("Attention", parts[0], *written, mask, scale=0.3)
    back = draft.op("Transpose", actual, dims=["B", "T", HEADS, SIZE], perm=[0, 2, 1, 3])
    merged = draft.op("Reshape", back, draft.weight([0, 0, HEADS * SIZE]), dims=["B", "T", HEADS * SIZE])
    model = draft.model(**{"y": merged, "present.0.key": written[0], "present.0.value": written[1]})
    assert lower_gqa(model.graph, max_positions=LONGEST) == 1
    remove_noops(model.graph)
    assert not {"Transpose", "Reshape"} & set(operators(model))
    assert model.graph.inputs[0].dtype == INT64


def test_layers_share_the_lengths():
    draft = AttentionDraft()
    outputs = {}
    for layer in range(2):
        parts = [noise(2, count, 1, SIZE) for count in (HEADS, KV_HEADS, KV_HEADS)]
        query, key, value = (
            draft.input(f"{name}{layer}", "B", part.shape[1], "T", SIZE)
            for name, part in zip("qkv", parts, strict=True)
        )
        pasts = [
            draft.input(f"past_key_values.{layer}.{name}", "B", KV_HEADS, "capacity", SIZE) for name in ("key", "value")
        ]
        written = [
            draft.op("TensorScatter", past, new, draft.past_length, axis=2)
            for past, new in zip(pasts, (key, value), strict=True)
        ]
        outputs[f"y{layer}"] = draft.op("Attention", query, *written, draft.mask(pasts[0]), scale=0.3)
        outputs |= {f"present.{layer}.key": written[0], f"present.{layer}.value": written[1]}
    model = draft.model(**outputs)
    assert lower_gqa(model.graph, max_positions=LONGEST) == 2
    first, second = (node for node in model.graph if node.op_type == "GroupQueryAttention")
    assert list(first.inputs[5:7]) == list(second.inputs[5:7])
