from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.contract.code_planes import PLANES
from jisu.exporter.graph.code_planes import are_planes, rows_of_planes, store_planes
from jisu.exporter.graph.evaluate import evaluate
from tests.exporter.passes.draft import Draft

ROWS, FEATURES = 5, 48


def stored(bits: int):
    """(graph, what planes of random codes make, the codes)."""
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (ROWS, 3, FEATURES // 3)).astype(np.uint8)
    codes <<= np.uint8(8 - bits)
    draft = Draft()
    model = draft.model(y=draft.op("Identity", draft.input("x", 1)))
    graph = model.graph
    tensor = ir.tensor(codes, name="w.packed")
    value = ir.Value(name="w.packed", type=ir.TensorType(tensor.dtype), shape=ir.Shape(codes.shape), const_value=tensor)
    return graph, store_planes(graph, graph[0], value, bits=bits, name="w"), codes.reshape(ROWS, FEATURES)


@pytest.mark.parametrize("bits", PLANES)
def test_codes_come_back_and_no_bit_is_stored_twice(bits):
    graph, value, codes = stored(bits)
    np.testing.assert_array_equal(evaluate(value, {}, opset=24), codes)
    planes = [one.const_value.nbytes for name, one in graph.initializers.items() if ".plane" in name]
    assert sum(planes) == ROWS * FEATURES * bits // 8


@pytest.mark.parametrize("bits", PLANES)
def test_some_rows_are_read_alone(bits):
    _, value, codes = stored(bits)

    def some(plane: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
        return ir.tensor(plane.numpy()[1:4], name=name)

    nodes, constants, result = rows_of_planes(value, some)
    for number, node in enumerate(nodes):
        node.outputs[0].name = f"value_{number}"
    assert result.producer() is nodes[-1]
    assert constants
    np.testing.assert_array_equal(evaluate(result, {}, opset=24), codes[1:4])


def test_what_is_made_of_something_else_is_no_planes():
    graph, value, _ = stored(6)
    assert are_planes(value)
    assert not are_planes(None)
    assert not are_planes(graph.inputs[0])
    draft = Draft()
    weight = draft.weight(np.zeros((4, 4)), "w")
    shaped = draft.op("Reshape", weight, draft.weight([0, -1], "shape"))
    turned = draft.op("Reshape", draft.op("Transpose", weight), draft.weight([0, -1], "shape"))
    assert not are_planes(shaped)
    assert not are_planes(turned)
