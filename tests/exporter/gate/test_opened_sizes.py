from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from jisu.exporter.gate.opened_sizes import opened_bytes, opened_sizes


def external(name: str, kind: int, count: int) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=[count], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", "w.data"), ("length", str(count))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def test_what_an_opened_weight_takes_depends_on_its_type():
    graph = helper.make_graph([], "weights", [], [])
    kinds = {"float": TensorProto.FLOAT, "half": TensorProto.FLOAT16, "codes": TensorProto.UINT8}
    graph.initializer.extend(external(name, kind, 1000) for name, kind in kinds.items())
    graph.initializer.append(helper.make_tensor("inline", TensorProto.FLOAT, [1], [1.0]))
    model = helper.make_model(graph)
    assert opened_sizes(model) == {"float": 1000, "half": 2000, "codes": 1250}
    assert opened_sizes(model, keeps_half=True) == {"float": 1000, "half": 1000, "codes": 1250}
    assert opened_bytes(model) == 4250


def test_of_a_table_the_rows_that_are_looked_up_are_in_memory():
    graph = helper.make_graph([], "weights", [], [])
    graph.initializer.extend(external(name, TensorProto.UINT8, 1000) for name in ("table", "scales", "tied", "ids"))
    graph.node.append(helper.make_node("GatherBlockQuantized", ["table", "ids", "scales"], ["rows"]))
    graph.node.append(helper.make_node("Gather", ["tied", "ids"], ["more"]))
    graph.node.append(helper.make_node("MatMul", ["more", "tied"], ["product"]))
    assert opened_sizes(helper.make_model(graph)) == {"table": 0, "scales": 0, "tied": 1250, "ids": 1250}


def test_codes_in_planes_take_a_byte_each():
    graph = helper.make_graph([], "weights", [], [])
    graph.initializer.extend(external(f"codes.plane{bits}", TensorProto.UINT8, 100 * bits) for bits in (4, 2))
    graph.node.append(helper.make_node("BitwiseAnd", ["codes.plane4", "codes.plane4"], ["upper"]))
    graph.node.append(helper.make_node("BitwiseOr", ["upper", "codes.plane2"], ["codes"]))
    entry = graph.node[1].metadata_props.add()
    entry.key, entry.value = "jisu.unpacks", "6"
    assert sum(opened_sizes(helper.make_model(graph)).values()) == pytest.approx(1000, abs=2)
