from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.graph.match import ancestors
from jisu.exporter.passes.count_in_gpu_memory import count_in_gpu_memory, count_places
from tests.exporter.passes.draft import Draft, noise, operators, run

INT64 = ir.DataType.INT64


def drafted(meets="Add"):
    """past [B] meets the number of tokens and, as floats, one less than it; a reshape takes the number as it is."""
    draft = Draft()
    ids, past = draft.input("ids", "B", "T", dtype=INT64), draft.input("past", "B", dtype=INT64)
    width = draft.op("Shape", ids, dims=[1], start=1, end=2)
    number = draft.op("Squeeze", width, dims=[])
    seen = draft.op(meets, past, number, dims=["B"])
    last = draft.op("Cast", draft.op("Sub", number, draft.weight(1)), dtype=ir.DataType.FLOAT, dims=[], to=1)
    x = draft.input("x", "T")
    shape = draft.op("Concat", width, draft.weight([1]), dims=[2], axis=0)
    return draft.model(seen=seen, scaled=draft.op("Mul", x, last), column=draft.op("Reshape", x, shape, dims=["T", 1]))


@pytest.mark.parametrize("tokens", [1, 5])
def test_sizes_that_meet_numbers_are_counted_and_the_numbers_stay(tokens):
    model, before = drafted(), drafted()
    assert count_places(model.graph) == 2
    assert count_in_gpu_memory(model.graph) == 2
    feeds = {"ids": np.zeros((2, tokens), np.int64), "past": np.array([3, 9]), "x": noise(tokens)}
    actual = run(model, feeds)
    for name, expected in run(before, feeds).items():
        np.testing.assert_array_equal(actual[name], expected)
    assert operators(model)["ReduceSum"] == 1
    for output in model.graph.outputs[:2]:
        assert "ReduceSum" in {node.op_type for node in ancestors(output)}
    assert "ReduceSum" not in {node.op_type for node in ancestors(model.graph.outputs[2])}
    assert (count_places(model.graph), count_in_gpu_memory(model.graph)) == (0, 0)


def test_a_size_that_only_shapes_read_stays_a_shape():
    draft = Draft()
    x = draft.input("x", "B", "T")
    width = draft.op("Shape", x, dims=[1], dtype=INT64, start=1, end=2)
    twice = draft.op("Mul", width, draft.weight([2]))
    model = draft.model(y=draft.op("Reshape", x, draft.op("Concat", twice, draft.weight([-1]), axis=0)))
    assert (count_places(model.graph), count_in_gpu_memory(model.graph)) == (0, 0)
