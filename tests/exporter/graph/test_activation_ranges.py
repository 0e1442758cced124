from __future__ import annotations

import math
import weakref

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.graph import activation_ranges
from jisu.exporter.graph.activation_ranges import measure_ranges
from jisu.exporter.graph.graph_pieces import piece_model
from tests.exporter.passes.draft import Draft, copied, noise, run


def tokens_times(weight: np.ndarray) -> ir.Model:
    """logits = table[input_ids] @ weight, negated on the way"""
    draft = Draft()
    ids = draft.input("input_ids", "B", "T", dtype=ir.DataType.INT64)
    table = draft.weight(np.arange(64 * 32, dtype=np.float32).reshape(64, 32) / 100, "table")
    rows = draft.op("Gather", table, ids, dims=["B", "T", 32], axis=0, name="rows", dtype=ir.DataType.FLOAT)
    product = draft.op("MatMul", draft.op("Neg", rows, name="negated"), draft.weight(weight, "w"))
    return draft.model(logits=product)


def test_the_largest_magnitude_of_all_windows_is_found():
    model = tokens_times(np.eye(32) * 2)
    before = copied(model)
    # Row 7 ends with (7 * 32 + 31) / 100, the largest of these tokens'.
    assert measure_ranges(model.graph, [np.array([1, 7]), np.array([2])]) == pytest.approx(
        {"rows": 2.55, "negated": 2.55, "logits": 5.1}
    )
    feeds = {"input_ids": np.array([[1, 7]])}
    np.testing.assert_array_equal(run(model, feeds)["logits"], run(before, feeds)["logits"])
    assert len(model.graph.outputs) == 1, "the graph itself is not changed"


@pytest.mark.parametrize("place", range(0, 32, 5))
def test_a_nan_is_found_wherever_it_stands(place):
    weight = np.eye(32)
    weight[3, place] = np.nan
    actual = measure_ranges(tokens_times(weight).graph, [np.array([5, 6]), np.array([5])])
    assert math.isnan(actual["logits"])
    assert actual["rows"] == pytest.approx(2.23)


def test_an_infinity_is_no_nan():
    weight = np.eye(32)
    weight[3, 3] = 3e38
    weight = weight * 1e3
    with np.errstate(over="ignore"):
        actual = measure_ranges(tokens_times(weight.astype(np.float32)).graph, [np.array([5])])
    assert math.isinf(actual["logits"]) or math.isnan(actual["logits"])


def test_the_scores_of_an_attention_count_as_its_output():
    draft = Draft()
    ids = draft.input("input_ids", "B", "T", dtype=ir.DataType.INT64)
    table, large = noise(64, 16), draft.weight(np.float32(100.0))
    rows = draft.op("Gather", draft.weight(table, "table"), ids, dims=["B", "T", 16], dtype=ir.DataType.FLOAT, axis=0)
    split = draft.op("Reshape", rows, draft.weight([0, 0, 4, 4]), dims=["B", "T", 4, 4])
    query = draft.op("Transpose", split, dims=["B", 4, "T", 4], perm=[0, 2, 1, 3])
    key = draft.op("Slice", query, draft.weight([0]), draft.weight([2]), draft.weight([1]), dims=["B", 2, "T", 4])
    scaled = draft.op("Mul", query, large)
    model = draft.model(y=draft.op("Attention", scaled, key, key, scale=0.5, dims=["B", 4, "T", 4]))
    window = np.array([3, 9, 27])
    heads = table[window].reshape(3, 4, 4).transpose(1, 0, 2)
    scores = [50 * heads[head] @ heads[head // 2].T for head in range(4)]
    assert measure_ranges(model.graph, [window])["y"] == pytest.approx(np.abs(scores).max(), rel=1e-5)


def test_a_graph_that_takes_one_token_is_run_token_by_token_with_what_it_carries():
    draft = Draft()
    ids = draft.input("input_ids", "B", 1, dtype=ir.DataType.INT64)
    past = draft.input("past_state.0.sum", "B", 4)
    table = draft.weight(np.arange(32, dtype=np.float32).reshape(8, 4), "table")
    rows = draft.op("Gather", table, ids, dims=["B", 1, 4], axis=0, name="rows", dtype=ir.DataType.FLOAT)
    row = draft.op("Squeeze", rows, draft.weight([1]), dims=["B", 4], name="row")
    total = draft.op("Add", row, past, name="present_state.0.sum")
    model = draft.model(logits=draft.op("Neg", rows, name="negated"), **{"present_state.0.sum": total})
    # Row 1 ends with 7, row 2 with 11: after three tokens they have added up.
    actual = measure_ranges(model.graph, [np.array([1, 2, 1]), np.array([2])])
    assert (actual["rows"], actual["present_state.0.sum"]) == (11, 25)


def two_products(weight: np.ndarray) -> ir.Model:
    """logits = (rows + rows @ weight) @ table^T, rows = table[input_ids]"""
    draft = Draft()
    ids = draft.input("input_ids", "B", "T", dtype=ir.DataType.INT64)
    table = draft.weight(noise(64, 32), "table")
    rows = draft.op("Gather", table, ids, dims=["B", "T", 32], axis=0, name="rows", dtype=ir.DataType.FLOAT)
    sums = draft.op("Add", rows, draft.op("MatMul", rows, draft.weight(weight, "w"), name="product"), name="sums")
    head = draft.op("Transpose", table, perm=[1, 0], dims=[32, 64], name="head")
    return draft.model(logits=draft.op("MatMul", sums, head))


def test_pieces_give_what_the_whole_graph_gives(monkeypatch):
    model, windows = two_products(noise(32, 32)), [np.array([1, 7, 9]), np.array([2])]
    whole = measure_ranges(model.graph, windows)
    sizes = []

    def seen(proto, piece, kinds, outputs):
        sizes.append(len(piece.nodes))
        return piece_model(proto, piece, kinds, outputs)

    monkeypatch.setattr(activation_ranges, "PIECE_BYTES", 1)
    monkeypatch.setattr(activation_ranges, "piece_model", seen)
    assert measure_ranges(model.graph, windows) == whole
    assert len(sizes) == 3, "rows, their product, and what the table gives of the sums"
    assert set(whole) >= {"rows", "product", "sums", "logits"}


def test_weights_of_one_piece_at_a_time_are_in_memory(monkeypatch):
    model, alive, most = two_products(noise(32, 32)), [], []
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor.nbytes > 1024:

            def read(tensor=tensor):
                array = tensor.numpy().copy()
                alive.append(weakref.ref(array))
                most.append(sum(one() is not None for one in alive))
                return ir.tensor(array)

            lazy = ir.LazyTensor(read, dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
            value.const_value = lazy
    monkeypatch.setattr(activation_ranges, "PIECE_BYTES", 1)
    assert measure_ranges(model.graph, [np.array([1, 2])])
    assert most == [1, 1, 1]


def test_without_windows_there_is_nothing_to_measure():
    assert measure_ranges(two_products(noise(32, 32)).graph, []) == {}
