from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.passes.static_reshapes import static_reshapes
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names

INT64 = ir.DataType.INT64
FEEDS = {"x": noise(2, 3, 8), "other": noise(2, 5, 8)}


def size(draft, value, axis):
    return draft.op("Shape", value, dims=[1], dtype=INT64, start=axis, end=axis + 1)


def reshaped(draft, x, pieces, dims):
    shape = draft.op("Concat", *pieces, dims=[len(pieces)], dtype=INT64, axis=0)
    return draft.op("Reshape", x, shape, dims=dims, allowzero=1)


def target(model):
    node = next(node for node in model.graph if node.op_type == "Reshape")
    return None if node.inputs[1].const_value is None else node.inputs[1].const_value.numpy().tolist()


def test_sizes_read_from_the_tensor_itself_become_zeros():
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    model = draft.model(
        y=reshaped(draft, x, [size(draft, x, 0), size(draft, x, 1), draft.weight([2, 4])], ["B", "T", 2, 4])
    )
    before, names = run(copied(model), FEEDS), signature_names(model)
    assert static_reshapes(model.graph) == 1
    assert target(model) == [0, 0, 2, 4]
    assert operators(model) == {"Reshape": 1}
    assert signature_names(model) == names
    np.testing.assert_array_equal(run(model, FEEDS)["y"], before["y"])  # a reshape moves no number
    assert static_reshapes(model.graph) == 0


def test_one_size_in_another_place_becomes_the_rest():
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    four = draft.op("Transpose", x, dims=["T", "B", 8], perm=[1, 0, 2])
    model = draft.model(y=reshaped(draft, four, [size(draft, x, 1), size(draft, x, 0), draft.weight([4, 2])], None))
    assert static_reshapes(model.graph) == 1
    assert target(model) == [0, 0, 4, 2]

    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    model = draft.model(y=reshaped(draft, x, [draft.weight([8]), size(draft, x, 1), size(draft, x, 0)], [8, "T", "B"]))
    before = run(copied(model), FEEDS)
    assert static_reshapes(model.graph) == 1
    assert target(model) == [8, 0, -1]
    np.testing.assert_array_equal(run(model, FEEDS)["y"], before["y"])


@pytest.mark.parametrize("case", ["two unknown", "rest twice", "computed", "from another tensor"])
def test_near_misses_stay_as_they_are(case):
    draft = Draft()
    x, other = draft.input("x", "B", "T", 8), draft.input("other", "B", "S", 8)
    if case == "two unknown":
        pieces = [size(draft, x, 1), size(draft, x, 0), draft.weight([8])]
    elif case == "rest twice":
        pieces = [size(draft, x, 1), draft.weight([-1])]
    elif case == "computed":
        pieces = [draft.op("Add", size(draft, x, 0), draft.weight([0])), draft.weight([-1])]
    else:
        pieces = [size(draft, other, 1), draft.weight([-1])]
    model = draft.model(y=reshaped(draft, x, pieces, ["P"] * len(pieces)), z=draft.op("Neg", other))
    assert static_reshapes(model.graph) == 0
    assert target(model) is None


def test_a_constant_target_is_left_alone():
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    model = draft.model(y=draft.op("Reshape", x, draft.weight([0, 0, 2, 4]), dims=["B", "T", 2, 4]))
    assert static_reshapes(model.graph) == 0
