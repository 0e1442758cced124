from __future__ import annotations

import numpy as np
import onnx_ir as ir

from jisu.exporter.passes.require_logits_positions import count_places, require_logits_positions
from tests.exporter.passes.draft import Draft


def test_the_default_goes_and_the_input_stays():
    draft = Draft()
    x = draft.input("x", "B", 4)
    positions = draft.weight(np.array([[-1]]), "logits_positions")
    draft.inputs.append(positions)
    model = draft.model(y=draft.op("Add", x, draft.op("Cast", positions, dtype=ir.DataType.FLOAT, to=1)))
    assert count_places(model.graph) == require_logits_positions(model.graph) == 1
    actual = next(value for value in model.graph.inputs if value.name == "logits_positions")
    assert actual.const_value is None
    assert [str(dim) for dim in actual.shape] == ["B", "K"]
    assert not model.graph.initializers
    assert require_logits_positions(model.graph) == count_places(model.graph) == 0


def test_a_graph_without_it_is_left_alone():
    draft = Draft()
    model = draft.model(y=draft.op("Neg", draft.input("x", "B", 4)))
    assert require_logits_positions(model.graph) == 0
