from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import jisu.exporter.passes.fuse_rope as fuse_rope_file
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import IMAGE_SHIFTS
from jisu.exporter.passes.fuse_rope import count_places, fuse_rope
from tests.exporter.passes.attention_draft import END, INT64, AttentionDraft
from tests.exporter.passes.draft import copied, noise, operators, run, signature_names

HEADS, SIZE, LONGEST = 2, 8, 32
# cos and sin come from a table that was computed by the same operators: only the order of two products differs.
ROUNDING = 1e-6
FEEDS = {
    "input_ids": np.zeros((2, 3), dtype=np.int64),
    "past_length": np.array([4, 20]),
    "x": noise(2, HEADS, 3, SIZE),
    "wide": noise(2, HEADS, 3, 12),
    "tall": noise(2, 3, HEADS, SIZE),
    "even": noise(2, 3, 3, SIZE),
}


def drafted(build=None, *, dims=("B", HEADS, "T", SIZE), name="x", **options):
    draft = AttentionDraft()
    x = draft.input(name, *dims)
    made = build(draft) if build else {}
    return draft.model(y=draft.rotated(x, SIZE, **made, **options))


def test_a_rotation_becomes_one_operator_with_the_same_numbers():
    model = drafted()
    before, names = run(copied(model), FEEDS), signature_names(model)
    assert count_places(model.graph) == 1
    assert fuse_rope(model.graph, max_positions=LONGEST) == 1
    actual = operators(model)
    assert actual["RotaryEmbedding"] == 1
    assert not {"Cos", "Sin", "Concat", "Neg"} & set(actual)
    assert signature_names(model) == names
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=ROUNDING)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 0


def test_query_and_key_share_their_tables():
    draft = AttentionDraft()
    x, other = draft.input("x", "B", HEADS, "T", SIZE), draft.input("even", "B", 3, "T", SIZE)
    cos, sin = draft.angle("Cos", SIZE), draft.angle("Sin", SIZE)
    model = draft.model(y=draft.rotated(x, SIZE, cos=cos, sin=sin), z=draft.rotated(other, SIZE, cos=cos, sin=sin))
    assert fuse_rope(model.graph, max_positions=LONGEST) == 2
    first, second = (node for node in model.graph if node.op_type == "RotaryEmbedding")
    assert list(first.inputs[1:]) == list(second.inputs[1:])


@pytest.mark.parametrize("size", [2, 6, 10])
def test_heads_of_any_even_size_are_recognized(size):
    draft = AttentionDraft()
    x = draft.input("x", "B", HEADS, "T", size)
    model = draft.model(y=draft.rotated(x, size))
    feeds = {**FEEDS, "x": noise(2, HEADS, 3, size)}
    before = run(copied(model), feeds)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 1
    np.testing.assert_allclose(run(model, feeds)["y"], before["y"], atol=ROUNDING)


def test_a_part_of_the_head_is_rotated_with_the_rest_passed_on():
    draft = AttentionDraft()
    wide = draft.input("wide", "B", HEADS, "T", 12)
    turned = draft.rotated(draft.sliced(wide, 0, SIZE), SIZE)
    model = draft.model(
        y=draft.op("Concat", turned, draft.sliced(wide, SIZE, END), dims=["B", HEADS, "T", 12], axis=-1)
    )
    before = run(copied(model), FEEDS)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 1
    assert operators(model)["Slice"] == 0
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=ROUNDING)


def test_a_rest_that_does_not_follow_the_rotated_part_stays_outside():
    draft = AttentionDraft()
    wide = draft.input("wide", "B", HEADS, "T", 12)
    turned = draft.rotated(draft.sliced(wide, 0, SIZE), SIZE)
    model = draft.model(
        y=draft.op("Concat", turned, draft.sliced(wide, SIZE - 1, END), dims=["B", HEADS, "T", 13], axis=-1)
    )
    before = run(copied(model), FEEDS)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 1
    assert operators(model)["Slice"] == 2
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=ROUNDING)


def interleaved(draft):
    """Angles whose halves differ: another rotation than the operator's."""
    return {"cos": draft.angle("Cos", SIZE, halves="differ"), "sin": draft.angle("Sin", SIZE, halves="differ")}


def by_data(draft):
    """Angles that depend on more than the position."""
    angle = draft.angle("Cos", SIZE)
    total = draft.op("ReduceMax", draft.op("Cast", draft.input_ids, dtype=ir.DataType.FLOAT, to=1), dims=[], keepdims=0)
    return {"cos": draft.op("Mul", angle, total)}


def by_length(draft):
    """Angles that depend on the longest position of the call, as dynamic scaling has them."""
    positions = draft.op("Cast", draft.positions, dtype=ir.DataType.FLOAT, to=1)
    longest = draft.op("ReduceMax", positions, dims=[], keepdims=0)
    return {"cos": draft.op("Mul", draft.angle("Cos", SIZE), longest)}


NEAR_MISSES = {
    "halves swapped": {"swapped": True},
    "split past the middle": {"middle": SIZE // 2 + 1},
    "not negated": {"negated": False},
    "halves of the angle differ": {"build": interleaved},
    "angle depends on the tokens": {"build": by_data},
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_near_misses_stay_as_they_are(case):
    model = drafted(**NEAR_MISSES[case])
    before = operators(model)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 0
    assert operators(model) == before


def test_heads_behind_the_tokens_are_not_what_the_operator_reads():
    model = drafted(dims=("B", "T", HEADS, SIZE), name="tall", axis=2)
    assert run(copied(model), FEEDS)["y"].shape == (2, 3, HEADS, SIZE)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 0


def test_as_many_heads_as_tokens_do_not_hide_the_wrong_layout():
    """[B, 3, 3, D] broadcasts with either layout: only the axis that was added tells them apart."""
    model = drafted(dims=("B", "T", 3, SIZE), name="even", axis=2)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 0


def test_the_square_of_the_tensor_is_no_rotation():
    draft = AttentionDraft()
    x = draft.input("x", "B", HEADS, "T", SIZE)
    halves = draft.op("Concat", draft.op("Neg", draft.sliced(x, 4, END)), draft.sliced(x, 0, 4), dims=x.shape, axis=-1)
    wide = draft.op("Unsqueeze", draft.angle("Sin", SIZE), draft.weight([1]), dims=["B", 1, "T", SIZE])
    model = draft.model(y=draft.op("Add", draft.op("Mul", x, x), draft.op("Mul", halves, wide)))
    assert fuse_rope(model.graph, max_positions=LONGEST) == 0


@pytest.mark.parametrize("offset", [1, -1])
def test_positions_shifted_by_one_are_carried_into_the_table_or_left(offset):
    """cos of another position is another function of the position: the numbers must not change."""

    def shifted(draft):
        positions = draft.op("Abs", draft.op("Add", draft.positions, draft.weight(offset)))
        return {function.lower(): draft.angle(function, SIZE, positions=positions) for function in ("Cos", "Sin")}

    model = drafted(build=shifted)
    before = run(copied(model), FEEDS)
    fuse_rope(model.graph, max_positions=LONGEST)
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=ROUNDING)


def test_a_graph_without_token_positions_is_left_alone():
    draft = AttentionDraft()
    x, other = draft.input("x", "B", HEADS, "T", SIZE), draft.input("start", "B", dtype=ir.DataType.INT64)
    elsewhere = draft.numbered(other)
    made = {name.lower(): draft.angle(name, SIZE, positions=elsewhere) for name in ("Cos", "Sin")}
    draft.positions = elsewhere
    model = draft.model(y=draft.rotated(x, SIZE, **made))
    operators(model)  # sweeps the unused positions
    assert fuse_rope(model.graph, max_positions=LONGEST) == 0


def test_angles_that_depend_on_the_longest_position_are_refused_with_the_reason():
    with pytest.raises(InputError, match="depend on the length of the text"):
        fuse_rope(drafted(build=by_length).graph, max_positions=LONGEST)


@pytest.mark.parametrize("longest", [None, 10**9, 4 * 10**9, fuse_rope_file.LARGEST_TABLE // 16 + 1])
def test_a_table_that_would_be_too_large_is_not_built(longest):
    """The angles stay computed, and the operator reads them instead of a table."""
    model = drafted()
    before, names = run(copied(model), FEEDS), signature_names(model)
    assert fuse_rope(model.graph, max_positions=longest) == count_places(drafted().graph) == 1
    assert {"RotaryEmbedding", "Cos", "Sin"} <= set(operators(model))
    assert all(value.const_value.size < 100 for value in model.graph.initializers.values())
    assert signature_names(model) == names
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=ROUNDING)
    assert fuse_rope(model.graph, max_positions=longest) == 0


def test_computed_angles_are_shared_by_query_and_key():
    draft = AttentionDraft()
    x, other = draft.input("x", "B", HEADS, "T", SIZE), draft.input("even", "B", 3, "T", SIZE)
    cos, sin = draft.angle("Cos", SIZE), draft.angle("Sin", SIZE)
    model = draft.model(y=draft.rotated(x, SIZE, cos=cos, sin=sin), z=draft.rotated(other, SIZE, cos=cos, sin=sin))
    assert fuse_rope(model.graph, max_positions=None) == 2
    first, second = (node for node in model.graph if node.op_type == "RotaryEmbedding")
    assert list(first.inputs[1:]) == list(second.inputs[1:])


def on_three_axes(draft, function, halves="equal"):
    """Angles whose elements are of time, height or width, chosen by a layer for itself; as `AttentionDraft.angle`."""
    shifts = next((one for one in draft.inputs if one.name == IMAGE_SHIFTS), None)
    if shifts is None:
        shifts = draft.input(IMAGE_SHIFTS, 3, "B", "T", dtype=INT64)
        draft.angles = {}
        draft.places = draft.op("Add", shifts, draft.positions, dims=[3, "B", "T"])
    if function not in draft.angles:
        number = draft.op("Cast", draft.places, dtype=ir.DataType.FLOAT, to=1)
        column = draft.op("Unsqueeze", number, draft.weight([3]), dims=[3, "B", "T", 1])
        half = draft.op("Mul", column, draft.weight(10.0 ** -np.arange(SIZE // 2)), dims=[3, "B", "T", SIZE // 2])
        other = half if halves == "equal" else draft.op("Mul", half, draft.weight(np.float32(1.1)))
        both = draft.op("Concat", half, other, dims=[3, "B", "T", SIZE], axis=-1)
        draft.angles[function] = draft.op(function, both)
    angle = draft.angles[function]
    parts = []
    for place in range(SIZE):
        axis = draft.op("Gather", angle, draft.weight(place % (SIZE // 2) % 3), dims=["B", "T", SIZE], axis=0)
        parts.append(draft.op("Gather", axis, draft.weight([place]), dims=["B", "T", 1], axis=2))
    return draft.op("Concat", *parts, dims=["B", "T", SIZE], axis=-1)


SHIFTED = FEEDS | {IMAGE_SHIFTS: np.random.default_rng(0).integers(-3, 9, (3, 2, 3))}


def test_positions_on_three_axes_stay_computed_and_are_shared_by_layers():
    draft = AttentionDraft()
    values = [draft.input("x", "B", HEADS, "T", SIZE), draft.input("even", "B", 3, "T", SIZE)]
    y, z = (draft.rotated(x, SIZE, cos=on_three_axes(draft, "Cos"), sin=on_three_axes(draft, "Sin")) for x in values)
    model = draft.model(y=y, z=z)
    before, names = run(copied(model), SHIFTED), signature_names(model)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 2
    first, second = (node for node in model.graph if node.op_type == "RotaryEmbedding")
    assert list(first.inputs[1:]) == list(second.inputs[1:])
    assert len(first.inputs) == 3
    assert operators(model)["Neg"] == 0
    assert signature_names(model) == names
    for name in ("y", "z"):
        np.testing.assert_allclose(run(model, SHIFTED)[name], before[name], atol=ROUNDING)
    assert fuse_rope(model.graph, max_positions=LONGEST) == 0


def test_unequal_halves_on_three_axes_stay_as_they_are():
    draft = AttentionDraft()
    x = draft.input("x", "B", HEADS, "T", SIZE)
    cos, sin = (on_three_axes(draft, function, "unequal") for function in ("Cos", "Sin"))
    model = draft.model(y=draft.rotated(x, SIZE, cos=cos, sin=sin))
    assert fuse_rope(model.graph, max_positions=LONGEST) == 0


def test_a_table_is_the_same_however_many_positions_are_computed_at_a_time(monkeypatch):
    tables = []
    for block in (LONGEST, 5):
        monkeypatch.setattr(fuse_rope_file, "_BLOCK", block)
        model = drafted()
        fuse_rope(model.graph, max_positions=LONGEST)
        tables.append(model.graph.initializers["rotary_table_0"].const_value.numpy())
    assert tables[0].shape == tables[1].shape == (LONGEST, SIZE // 2)
    np.testing.assert_allclose(*tables, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("longest", [1, 2, 3, 5])
def test_a_model_of_very_few_positions_gets_its_table(longest):
    model = drafted()
    assert fuse_rope(model.graph, max_positions=longest) == 1
    assert model.graph.initializers["rotary_table_0"].shape == (longest, SIZE // 2)
