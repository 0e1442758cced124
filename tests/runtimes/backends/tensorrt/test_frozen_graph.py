from __future__ import annotations

import shutil

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.frozen_graph import frozen_graph


def test_nothing_but_the_capacity_becomes_a_number(trt_llama):
    import onnx
    import onnx_ir as ir

    frozen = ir.serde.deserialize_model(onnx.ModelProto.FromString(frozen_graph(trt_llama.graph, capacity=96)))
    graph = ir.load(trt_llama.graph).graph
    for old, new in zip((*graph.inputs, *graph.outputs), (*frozen.graph.inputs, *frozen.graph.outputs), strict=True):
        expected = [96 if str(dim) == "capacity" else str(dim) for dim in old.shape]
        assert [dim if dim == 96 else str(dim) for dim in new.shape] == expected
    assert [node.op_type for node in frozen.graph] == [node.op_type for node in graph]


def test_a_damaged_graph_is_one_clear_error(trt_llama, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(trt_llama.folder, folder)
    size = (folder / "model.onnx").stat().st_size
    (folder / "model.onnx").write_bytes(b"\0" * size)
    with pytest.raises(InputError):
        frozen_graph(folder / "model.onnx", capacity=8)
