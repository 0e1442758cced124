from __future__ import annotations

import numpy as np
import pytest

from jisu.runtimes.machine import int8_sums
from jisu.runtimes.machine.int8_sums import GRAPH, INPUT, WEIGHT, int8_sums_overflow


def test_the_graph_is_one_matmul_of_two_products():
    import onnx
    from onnx import TensorProto, helper

    sides = {"x": (TensorProto.UINT8, [1, 2]), "w": (TensorProto.INT8, [2, 1]), "y": (TensorProto.INT32, [1, 1])}
    values = [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in sides.items()]
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    assert onnx.load_model_from_string(GRAPH) == model
    onnx.checker.check_model(onnx.load_model_from_string(GRAPH))


@pytest.mark.parametrize(("product", "overflows"), [(2 * INPUT * WEIGHT, False), (32767, True)])
def test_a_sum_that_int16_does_not_hold_tells(monkeypatch, product, overflows):
    class Session:
        def __init__(self, graph, options, providers):
            assert graph == GRAPH

        def run(self, _, feeds):
            assert (feeds["x"] == INPUT).all()
            assert (feeds["w"] == WEIGHT).all()
            return [np.array([[product]], np.int32)]

    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert int8_sums_overflow.__wrapped__() is overflows


def test_this_machine_answers_once():
    assert int8_sums.int8_sums_overflow() in (False, True)
    assert int8_sums_overflow.cache_info().currsize == 1
