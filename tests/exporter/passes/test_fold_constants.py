from __future__ import annotations

import numpy as np

from jisu.exporter.passes.fold_constants import fold_constants
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names

FEEDS = {"x": noise(2, 3, 4)}


def test_one_plus_a_weight_becomes_a_weight():
    draft = Draft()
    x = draft.input("x", "B", "T", 4)
    plus = draft.op("Add", draft.weight(noise(4), "w"), draft.weight(np.float32(1.0)))
    model = draft.model(y=draft.op("Mul", x, plus))
    before, names = run(copied(model), FEEDS), signature_names(model)
    assert fold_constants(model.graph) == 1
    assert operators(model) == {"Mul": 1}
    assert signature_names(model) == names
    np.testing.assert_array_equal(run(model, FEEDS)["y"], before["y"])
    assert fold_constants(model.graph) == 0


def test_what_depends_on_an_input_is_not_folded():
    draft = Draft()
    x = draft.input("x", "B", "T", 4)
    model = draft.model(y=draft.op("Add", x, draft.weight(np.float32(1.0))))
    assert fold_constants(model.graph) == 0
    assert operators(model) == {"Add": 1}


def test_the_transpose_of_a_weight_is_left_for_a_pass_that_does_not_read_it():
    draft = Draft()
    x = draft.input("x", "B", "T", 4)
    turned = draft.op("Transpose", draft.weight(noise(5, 4), "w"), dims=[4, 5], perm=[1, 0])
    model = draft.model(y=draft.op("MatMul", x, turned, dims=["B", "T", 5]))
    assert fold_constants(model.graph) == 0
    assert operators(model)["Transpose"] == 1
