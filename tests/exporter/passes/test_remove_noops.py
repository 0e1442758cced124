from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.passes.remove_noops import remove_noops
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names

FEEDS = {"x": noise(2, 3, 8)}
END = (1 << 63) - 1


def drafted(build):
    """neg -> what is tested -> neg, so that neither end is an input or output of the graph."""
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    inner = build(draft, draft.op("Neg", x))
    return draft.model(y=draft.op("Neg", inner))


def sliced(draft, x, start, end, step=1, dims=None):
    numbers = [draft.weight([number]) for number in (start, end, -1, step)]
    return draft.op("Slice", x, *numbers, dims=dims)


def split_and_merge(draft, x):
    four = draft.op("Reshape", x, draft.weight([0, 0, 2, 4]), dims=["B", "T", 2, 4])
    swapped = draft.op("Transpose", four, dims=["B", 2, "T", 4], perm=[0, 2, 1, 3])
    back = draft.op("Transpose", swapped, dims=["B", "T", 2, 4], perm=[0, 2, 1, 3])
    return draft.op("Reshape", back, draft.weight([0, 0, 8]), dims=["B", "T", 8])


NOOPS = {
    "identity": lambda draft, x: draft.op("Identity", x),
    "cast to its own type": lambda draft, x: draft.op("Cast", x, to=int(ir.DataType.FLOAT)),
    "slice of everything": lambda draft, x: sliced(draft, x, 0, END),
    "product with one": lambda draft, x: draft.op("Mul", x, draft.weight(np.float32(1.0))),
    "reshape to the same": lambda draft, x: draft.op("Reshape", x, draft.weight([0, 0, 8])),
    "transpose to the same": lambda draft, x: draft.op("Transpose", x, perm=[0, 1, 2]),
    "heads split and merged": split_and_merge,
}
NEAR_MISSES = {
    "cast to another type": lambda draft, x: draft.op(
        "Cast", draft.op("Cast", x, dtype=ir.DataType.INT32, to=6), dtype=ir.DataType.FLOAT, to=1
    ),
    "slice short of the end": lambda draft, x: sliced(draft, x, 0, -1, dims=["B", "T", 7]),
    "slice from one": lambda draft, x: sliced(draft, x, 1, END, dims=["B", "T", 7]),
    "slice backwards": lambda draft, x: sliced(draft, x, -1, -END, step=-1),
    "product with two": lambda draft, x: draft.op("Mul", x, draft.weight(np.float32(2.0))),
    "product that widens": lambda draft, x: draft.op("Mul", x, draft.weight(np.ones((2, 1, 1, 1))), dims=[2, 2, 3, 8]),
    "transposes that add up": lambda draft, x: draft.op(
        "Transpose", draft.op("Transpose", x, dims=["T", 8, "B"], perm=[1, 2, 0]), dims=[8, "B", "T"], perm=[1, 2, 0]
    ),
}


@pytest.mark.parametrize("case", NOOPS)
def test_what_hands_its_input_through_goes(case):
    model = drafted(NOOPS[case])
    before, names = run(copied(model), FEEDS), signature_names(model)
    assert remove_noops(model.graph) >= 1
    assert operators(model) == {"Neg": 2}
    assert signature_names(model) == names
    np.testing.assert_array_equal(run(model, FEEDS)["y"], before["y"])  # nothing is computed anew
    assert remove_noops(model.graph) == 0


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_near_misses_stay_as_they_are(case):
    model = drafted(NEAR_MISSES[case])
    before = operators(model)
    assert remove_noops(model.graph) == 0
    assert operators(model) == before


def test_two_reshapes_become_the_second():
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    first = draft.op("Reshape", draft.op("Neg", x), draft.weight([0, 0, 2, 4]), dims=["B", "T", 2, 4])
    model = draft.model(y=draft.op("Reshape", first, draft.weight([0, 0, 4, 2]), dims=["B", "T", 4, 2]))
    before = run(copied(model), FEEDS)
    assert remove_noops(model.graph) == 1
    assert operators(model) == {"Neg": 1, "Reshape": 1}
    np.testing.assert_array_equal(run(model, FEEDS)["y"], before["y"])


def test_a_zero_that_means_another_size_keeps_both_reshapes():
    draft = Draft()
    x = draft.input("x", 6, 8)
    first = draft.op("Reshape", draft.op("Neg", x), draft.weight([2, 3, 8]), dims=[2, 3, 8])
    model = draft.model(y=draft.op("Reshape", first, draft.weight([0, 0, 0, 1]), dims=[2, 3, 8, 1]))
    before = run(copied(model), {"x": noise(6, 8)})
    remove_noops(model.graph)
    np.testing.assert_array_equal(run(model, {"x": noise(6, 8)})["y"], before["y"])


def test_transposes_without_a_permutation_reverse_the_axes():
    draft = Draft()
    x = draft.input("x", "B", "T")
    once = draft.op("Transpose", draft.op("Neg", x), dims=["T", "B"])
    model = draft.model(y=draft.op("Neg", draft.op("Transpose", once, dims=["B", "T"])))
    assert remove_noops(model.graph) == 1
    assert operators(model) == {"Neg": 2}


def test_an_output_that_is_an_input_keeps_its_name():
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    model = draft.model(y=draft.op("Identity", x))
    assert remove_noops(model.graph) == 0
    assert signature_names(model) == (["x"], ["y"])


def test_two_outputs_of_one_value_stay_two():
    draft = Draft()
    x = draft.input("x", "B", "T", 8)
    first = draft.op("Neg", x)
    model = draft.model(y=first, z=draft.op("Identity", first))
    remove_noops(model.graph)
    assert signature_names(model) == (["x"], ["y", "z"])
    np.testing.assert_array_equal(run(model, FEEDS)["z"], -FEEDS["x"])
