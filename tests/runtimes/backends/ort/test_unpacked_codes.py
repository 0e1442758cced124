from __future__ import annotations

import builtins
import gc
import os

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
from jisu.exporter.graph.weights_file import save_graph
from jisu.exporter.passes.lower_matmul_nbits import lower_matmul_nbits
from jisu.exporter.passes.lower_quantized_embedding import lower_quantized_embedding
from jisu.exporter.passes.pack_narrow_codes import pack_narrow_codes
from jisu.exporter.passes.quantize_weights import quantize_weights
from jisu.runtimes.backends.ort import unpacked_codes
from jisu.runtimes.backends.ort.session import open_session
from jisu.runtimes.backends.ort.unpacked_codes import Room, read_unpacked
from tests.exporter.passes.draft import Draft, noise
from tests.exporter.passes.test_pack_narrow_codes import FEATURES, FEEDS, ROWS, rounded


@pytest.fixture(params=[5, 6, 7, 8])
def graph(request, tmp_path):
    """A tied embedding of so many bits and a layer of 6, written with their weights beside them."""
    table, layer, draft = noise(ROWS, FEATURES), noise(ROWS, FEATURES), Draft()
    ids, x = draft.input("ids", "B", "T", dtype=ir.DataType.INT64), draft.input("x", "B", "T", FEATURES)
    weight = draft.weight(table, "w")
    rows = draft.op("Gather", weight, ids, dims=["B", "T", FEATURES], axis=0)
    turned = draft.op("Transpose", weight, dims=[FEATURES, ROWS], perm=[1, 0])
    model = draft.model(
        rows=rows,
        y=draft.op("MatMul", x, turned, dims=["B", "T", ROWS]),
        z=draft.op("MatMul", x, draft.weight(layer.T, "v"), dims=["B", "T", ROWS]),
    )
    integers = {"w": rounded(table, request.param), "v": rounded(layer, 6)}
    quantize_weights(model.graph, quantized=integers, target="ort-cpu")
    lower_matmul_nbits(model.graph)
    lower_quantized_embedding(model.graph)
    pack_narrow_codes(model.graph, quantized=integers)
    RemoveUnusedNodesPass()(model)
    save_graph(model, tmp_path)
    return tmp_path / "model.onnx"


def folded(graph):
    """What the runtime answers when it folds the codes itself."""
    session = import_onnxruntime().InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return session.run(None, FEEDS)


def test_answers_are_those_of_the_file_to_the_last_bit(graph):
    session = open_session(graph, threads=1)
    gc.collect()
    for _ in range(3):
        for actual, expected in zip(session.run(None, FEEDS), folded(graph), strict=True):
            np.testing.assert_array_equal(actual, expected)
    assert isinstance(session.jisu_codes, Room)


def test_nothing_is_left_to_fold(graph):
    data, _ = read_unpacked(graph, import_onnxruntime().SessionOptions())
    model = onnx.ModelProto.FromString(data)
    assert {node.op_type for node in model.graph.node} == {"GatherBlockQuantized", "MatMulNBits"}
    assert not [tensor.name for tensor in model.graph.initializer if ".plane" in tensor.name or "shift" in tensor.name]


def full(*_):
    raise OSError("No space left on device")


@pytest.mark.parametrize("reserve", [full, None])
def test_a_full_disk_and_a_system_that_cannot_tell_leave_them_in_memory(graph, monkeypatch, reserve):
    if reserve is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", reserve)
    session = open_session(graph, threads=1)
    assert not session.jisu_codes._in_file
    np.testing.assert_array_equal(session.run(None, FEEDS)[1], folded(graph)[1])


def test_without_onnx_the_runtime_folds_them(graph, monkeypatch):
    real = builtins.__import__

    def absent(name, *arguments, **options):
        if name == "onnx":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    session = open_session(graph, threads=1)
    assert not hasattr(session, "jisu_codes")
    np.testing.assert_array_equal(session.run(None, FEEDS)[1], folded(graph)[1])


def test_planes_that_do_not_belong_together_are_refused(graph):
    model = onnx.load(graph, load_external_data=False)
    plane = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("plane2"))
    plane.dims[2] //= 2
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="cannot open"):
        open_session(graph, threads=1)


def test_a_graph_without_planes_is_opened_as_it_is(tmp_path, monkeypatch):
    draft = Draft()
    x = draft.input("x", "B", "T", FEATURES)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(noise(FEATURES, ROWS), "w"), dims=["B", "T", ROWS]))
    save_graph(model, tmp_path)
    monkeypatch.setattr(unpacked_codes, "unpack_codes", None)
    assert read_unpacked(tmp_path / "model.onnx", None) is None
    assert open_session(tmp_path / "model.onnx", threads=1).get_inputs()[0].name == "x"
