from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.passes.transpose_weights import _transposed, transpose_weights
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names

FEEDS = {"x": noise(2, 3, 4)}


def projection(draft, x, weight, **attributes):
    rows, columns = weight.const_value.shape
    turned = draft.op("Transpose", weight, dims=[columns, rows], **{"perm": [1, 0], **attributes})
    return draft.op("MatMul", x, turned, dims=["B", "T", rows])


def test_a_weight_is_stored_as_the_product_reads_it():
    draft = Draft()
    x = draft.input("x", "B", "T", 4)
    model = draft.model(y=projection(draft, x, draft.weight(noise(5, 4), "w")))
    before, names = run(copied(model), FEEDS), signature_names(model)
    assert transpose_weights(model.graph) == 1
    assert operators(model) == {"MatMul": 1}
    assert model.graph.initializers["w"].const_value.shape == (4, 5)
    assert signature_names(model) == names
    # The same products in the same order: not a bit may differ.
    np.testing.assert_array_equal(run(model, FEEDS)["y"], before["y"])
    assert transpose_weights(model.graph) == 0


def test_a_weight_that_two_products_read_is_transposed_once():
    draft = Draft()
    x, weight = draft.input("x", "B", "T", 4), draft.weight(noise(4, 4), "w")
    model = draft.model(y=projection(draft, projection(draft, x, weight), weight))
    before = run(copied(model), FEEDS)
    assert transpose_weights(model.graph) == 2
    np.testing.assert_array_equal(run(model, FEEDS)["y"], before["y"])


def test_an_embedding_tied_to_the_projection_stays_as_it_is():
    draft = Draft()
    ids = draft.input("ids", "B", "T", dtype=draft.weight([0]).dtype)
    table = draft.weight(noise(5, 4), "table")
    hidden = draft.op("Gather", table, ids, dims=["B", "T", 4])
    model = draft.model(y=projection(draft, hidden, table))
    assert transpose_weights(model.graph) == 0
    assert operators(model)["Transpose"] == 1


def test_two_different_permutations_of_one_weight_stay():
    draft = Draft()
    weight = draft.weight(noise(3, 3, 3), "w")
    one = draft.op("Transpose", weight, perm=[0, 2, 1])
    other = draft.op("Transpose", weight, perm=[2, 1, 0])
    model = draft.model(y=draft.op("Add", one, other))
    assert transpose_weights(model.graph) == 0


def test_a_computed_tensor_is_not_a_weight():
    draft = Draft()
    x = draft.input("x", 4, 4)
    model = draft.model(y=draft.op("Transpose", x, perm=[1, 0]))
    assert transpose_weights(model.graph) == 0


def test_no_weight_is_read_before_it_is_written():
    draft = Draft()
    x = draft.input("x", "B", "T", 4)
    model = draft.model(y=projection(draft, x, draft.weight(noise(5, 4), "w")))
    read = []
    tensor = model.graph.initializers["w"].const_value
    model.graph.initializers["w"].const_value = type(
        "Watched", (), {"__getattr__": lambda self, name: getattr(tensor, name), "numpy": lambda self: read.append(1)}
    )()
    transpose_weights(model.graph)
    assert not read


@pytest.mark.parametrize(("shape", "permutation"), [((700, 3), (1, 0)), ((3, 700), (1, 0)), ((2, 3, 4), (0, 2, 1))])
def test_any_shape_is_transposed_as_numpy_does_it(shape, permutation):
    array = noise(*shape)
    actual = _transposed(ir.tensor(array), permutation).numpy()
    np.testing.assert_array_equal(actual, array.transpose(permutation))
    assert actual.flags.c_contiguous
