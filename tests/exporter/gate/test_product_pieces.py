from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from jisu.exporter.gate import product_pieces
from jisu.exporter.gate.product_pieces import cut_products, row_bounds
from jisu.exporter.graph.code_planes import store_planes
from jisu.exporter.graph.match import emit
from jisu.exporter.graph.read_graph import read_graph

ROWS, FEATURES, BLOCK = 200, 64, 32
GENERATOR = np.random.default_rng(3)
INPUT = GENERATOR.normal(size=(3, FEATURES)).astype(np.float32)


def saved(path, *, bits, half_scales=False, bias=False):
    """A matmul of 200 rows whose constants lie in a file beside the graph."""
    blocks = FEATURES // BLOCK
    scales = GENERATOR.uniform(0.01, 0.02, (ROWS, blocks)).astype(np.float16 if half_scales else np.float32)
    constants = {
        "codes": GENERATOR.integers(0, 256, (ROWS, blocks, BLOCK * bits // 8)).astype(np.uint8),
        "scales": scales,
        "zeros": GENERATOR.integers(0, 256, (ROWS, -(-blocks * bits // 8))).astype(np.uint8),
    }
    read = ["x", "codes", "wide" if half_scales else "scales", "zeros"]
    if bias:
        constants["bias"] = GENERATOR.normal(size=ROWS).astype(np.float32)
        read += ["", "bias"]
    attributes = {"K": FEATURES, "N": ROWS, "bits": bits, "block_size": BLOCK, "accuracy_level": 1}
    nodes = [helper.make_node("MatMulNBits", read, ["y"], domain="com.microsoft", **attributes)]
    if half_scales:
        nodes.insert(0, helper.make_node("Cast", ["scales"], ["wide"], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, ROWS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=10),
        path,
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    return path


def run(graph, folder):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    data = ir.to_proto(graph).SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {"x": INPUT})[0]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(product_pieces, "PIECE_BYTES", 4 * FEATURES * 64)


@pytest.mark.parametrize(
    "form", [{"bits": 8}, {"bits": 4}, {"bits": 8, "half_scales": True}, {"bits": 4, "bias": True}], ids=str
)
def test_pieces_give_what_the_whole_gives(form, tmp_path, small_pieces):
    path = saved(tmp_path / "model.onnx", **form)
    expected = run(read_graph(path), tmp_path)
    graph = read_graph(path)
    assert cut_products(graph.graph) == 1
    products = [node for node in graph.graph if node.op_type == "MatMulNBits"]
    assert [node.attributes["N"].as_int() for node in products] == [64, 64, 64, 8]
    np.testing.assert_allclose(run(graph, tmp_path), expected, rtol=1e-6, atol=1e-6)


def test_constants_stay_in_their_file(tmp_path, small_pieces):
    graph = read_graph(saved(tmp_path / "model.onnx", bits=8))
    cut_products(graph.graph)
    tensors = [value.const_value for value in graph.graph.initializers.values()]
    assert len(tensors) == 12
    assert all(isinstance(tensor, ir.ExternalTensor) for tensor in tensors)
    assert sum(tensor.nbytes for tensor in tensors) == (tmp_path / "model.onnx.data").stat().st_size


def test_a_small_matmul_is_left_alone(tmp_path):
    graph = read_graph(saved(tmp_path / "model.onnx", bits=8))
    assert cut_products(graph.graph) == 0
    assert [node.op_type for node in graph.graph] == ["MatMulNBits"]


def test_a_second_time_changes_nothing(tmp_path, small_pieces):
    graph = read_graph(saved(tmp_path / "model.onnx", bits=8))
    assert (cut_products(graph.graph), cut_products(graph.graph)) == (1, 0)


def test_pieces_are_whole_groups_of_rows():
    assert row_bounds(100, 8) == [(0, 100)]
    bounds = row_bounds(151_936, 1536)
    assert (bounds[0][0], bounds[-1][1]) == (0, 151_936)
    assert all(start % 64 == 0 and (stop - start) * 1536 * 4 <= 64 << 20 for start, stop in bounds)


def test_codes_that_are_put_together_from_planes_are_cut_as_planes(tmp_path, monkeypatch):
    model = read_graph(saved(tmp_path / "model.onnx", bits=8))
    node = model.graph[0]
    codes = node.inputs[1]
    codes.const_value = ir.tensor(codes.const_value.numpy() & np.uint8(0b11111100), name=codes.name)
    whole = run(model, tmp_path)
    shape = ir.Value(name="shape", const_value=ir.tensor(np.array([0, -1, BLOCK]), name="shape"))
    model.graph.initializers["shape"] = shape
    value = store_planes(model.graph, node, codes, bits=6, name="w")
    blocks = emit(node, "Reshape", [value, shape])
    node.replace_input_with(1, blocks)
    del model.graph.initializers["codes"]
    np.testing.assert_array_equal(run(model, tmp_path), whole)
    monkeypatch.setattr(product_pieces, "PIECE_BYTES", 64 * FEATURES * 4)
    assert cut_products(model.graph) == 1
    planes = {name: one.shape[0] for name, one in model.graph.initializers.items() if ".plane" in name}
    assert len(planes) == 2 * len(row_bounds(ROWS, FEATURES))
    assert max(planes.values()) == 64
    np.testing.assert_allclose(run(model, tmp_path), whole, atol=1e-5)


def test_what_two_matmuls_read_is_cut_once(tmp_path, monkeypatch):
    model = read_graph(saved(tmp_path / "model.onnx", bits=8, half_scales=True))
    node = next(node for node in model.graph if node.op_type == "MatMulNBits")
    again = ir.node("MatMulNBits", node.inputs, domain=node.domain)
    again.attributes.update(node.attributes)
    total = ir.node("Add", [node.outputs[0], again.outputs[0]])
    total.outputs[0].type, total.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
    model.graph.insert_after(node, [again, total])
    model.graph.outputs[0] = total.outputs[0]
    total.outputs[0].name, again.outputs[0].name = "sum", "again"
    whole = run(model, tmp_path)
    monkeypatch.setattr(product_pieces, "PIECE_BYTES", 64 * FEATURES * 4)
    assert cut_products(model.graph) == 2
    np.testing.assert_allclose(run(model, tmp_path), whole, atol=1e-5)
