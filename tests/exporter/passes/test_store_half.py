from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.graph.merge_weights import concat_weights
from jisu.exporter.passes import transpose_weights as transposing
from jisu.exporter.passes.store_half import ROUNDED_FROM, count_places, largest, note, store_half
from tests.exporter.passes.draft import Draft, noise, operators, run, signature_names

HALVES = ["float16", "bfloat16"]
FEEDS = {"x": noise(2, 3, 32), "ids": np.array([[1, 0, 4], [2, 2, 3]])}


def product(weight: np.ndarray, name: str = "w") -> ir.Model:
    """x @ weight with the weight stored [K, N]."""
    draft = Draft()
    x = draft.input("x", "B", "T", weight.shape[0])
    return draft.model(y=draft.op("MatMul", x, draft.weight(weight, name), dims=["B", "T", weight.shape[1]]))


def rounded(array: np.ndarray, half: str) -> np.ndarray:
    return array.astype(ir.DataType[half.upper()].numpy()).astype(np.float32)


@pytest.mark.parametrize("half", HALVES)
def test_a_product_reads_the_rounded_weight_through_a_cast(half):
    weight = noise(32, 8)
    model = product(weight)
    names = signature_names(model)
    assert count_places(model.graph, half=half, kept=frozenset()) == 1
    assert store_half(model.graph, half=half, kept=frozenset()) == 1
    assert operators(model) == {"Cast": 1, "MatMul": 1}
    assert signature_names(model) == names
    assert {name: value.dtype for name, value in model.graph.initializers.items()} == {"w": ir.DataType[half.upper()]}
    # Sums of 32 products in float32, in another order than numpy's.
    np.testing.assert_allclose(run(model, FEEDS)["y"], FEEDS["x"] @ rounded(weight, half), atol=1e-5)
    assert store_half(model.graph, half=half, kept=frozenset()) == 0
    assert count_places(model.graph, half=half, kept=frozenset()) == 0


def test_rounding_is_to_the_nearest_and_ties_go_to_even():
    # Between 1 and 2 float16 has steps of 2^-10: a quarter, a half (down to even), three quarters, one and a half (up).
    weight = np.array([[1 + 2**-12, 1 + 2**-11, 1 + 3 * 2**-12, 1 + 3 * 2**-11]], np.float32)
    model = product(weight)
    store_half(model.graph, half="float16", kept=frozenset())
    stored = model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(stored.astype(np.float64), [[1, 1, 1 + 2**-10, 1 + 2**-9]])


def test_a_tied_table_is_stored_once_and_cast_after_its_rows_are_read():
    table, draft = noise(6, 32), Draft()
    ids = draft.input("ids", "B", "T", dtype=ir.DataType.INT64)
    weight = draft.weight(table, "embedding")
    rows = draft.op("Gather", weight, ids, dims=["B", "T", 32], axis=0)
    model = draft.model(y=draft.op("MatMul", rows, draft.op("Transpose", weight, dims=[32, 6], perm=[1, 0]), dims=[6]))
    assert count_places(model.graph, half="float16", kept=frozenset()) == 1
    assert store_half(model.graph, half="float16", kept=frozenset()) == 1
    (gather,) = (node for node in model.graph if node.op_type == "Gather")
    assert gather.inputs[0] is model.graph.initializers["embedding"], "the table is not widened as a whole"
    assert [value.dtype for value in model.graph.initializers.values()] == [ir.DataType.FLOAT16]
    short = rounded(table, "float16")
    np.testing.assert_allclose(run(model, FEEDS)["y"], short[FEEDS["ids"]] @ short.T, atol=1e-5)
    assert store_half(model.graph, half="float16", kept=frozenset()) == 0


def test_a_merged_weight_is_marked_with_its_parts():
    draft = Draft()
    x = draft.input("x", "B", "T", 32)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(np.zeros((32, 12)), "hole"), dims=["B", "T", 12]))
    merged = concat_weights(model.graph, [draft.weight(noise(32, 8), "a"), draft.weight(noise(32, 4), "b")], "ab")
    next(iter(model.graph)).replace_input_with(1, merged)
    assert store_half(model.graph, half="float16", kept=frozenset()) == 1
    assert model.graph.initializers["ab"].metadata_props[ROUNDED_FROM] == "a b"


def test_a_kept_weight_stays_and_is_named():
    model = product(noise(32, 8))
    assert count_places(model.graph, half="float16", kept={"w"}) == 0
    assert note(model.graph, half="float16", kept={"w"}) == "w stays float32: w is kept"
    assert store_half(model.graph, half="float16", kept={"w"}) == 0
    assert model.graph.initializers["w"].dtype == ir.DataType.FLOAT


@pytest.mark.parametrize("value", [70000.0, -70000.0, np.inf, np.nan])
def test_a_weight_that_the_format_cannot_hold_stays_and_is_recorded(value):
    weight = noise(32, 8)
    weight[3, 4] = value
    model = product(weight)
    assert store_half(model.graph, half="float16", kept=frozenset()) == 0
    assert "w stays float32: it reaches" in (note(model.graph, half="float16", kept=frozenset()) or "")
    assert model.graph.initializers["w"].dtype == ir.DataType.FLOAT
    assert count_places(model.graph, half="bfloat16", kept=frozenset()) == (1 if np.isfinite(value) else 0), (
        "its range is float32's"
    )


def test_vectors_and_integers_are_left_alone():
    draft = Draft()
    x = draft.input("x", "B", "T", 32)
    ids = draft.input("ids", "B", "T", dtype=ir.DataType.INT64)
    scaled = draft.op("Mul", x, draft.weight(noise(32), "norm"))
    codes = draft.op("Gather", draft.weight([[1, 2], [3, 4]], "codes"), ids, dtype=ir.DataType.INT64, axis=0)
    model = draft.model(y=scaled, z=codes)
    assert count_places(model.graph, half="float16", kept=frozenset()) == 0
    assert store_half(model.graph, half="float16", kept=frozenset()) == 0


def side_by_side(*weights: np.ndarray) -> ir.Value:
    """x @ w.T of each weight, all transposed and joined."""
    draft = Draft()
    x = draft.input("x", "B", "T", weights[0].shape[1])
    turned = [
        draft.op("Transpose", draft.weight(weight, f"w{number}"), dims=list(weight.shape[::-1]), perm=[1, 0])
        for number, weight in enumerate(weights)
    ]
    products = [draft.op("MatMul", x, one, dims=["B", "T", one.shape[1]]) for one in turned]
    model = draft.model(**{f"y{number}": product for number, product in enumerate(products)})
    transposing.transpose_weights(model.graph)
    return concat_weights(model.graph, [model.graph.initializers[f"w{n}"] for n in range(len(weights))], "all")


def test_the_largest_number_is_looked_up_without_making_the_order_that_is_stored(monkeypatch):
    first, second = noise(5, 4), noise(3, 4)
    second[1, 2] = -70.0
    joined = side_by_side(first, second)
    evaluated: list[object] = []
    monkeypatch.setattr(transposing, "_transposed", lambda *_: evaluated.append(1))
    assert largest(joined) == 70.0
    assert evaluated == []


def test_a_number_that_is_none_is_found_in_any_part():
    second = noise(3, 4)
    second[2, 1] = np.nan
    assert np.isnan(largest(side_by_side(noise(5, 4), second)))
    assert np.isnan(largest(side_by_side(second, noise(5, 4))))
