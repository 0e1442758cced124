from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch

from jisu.exporter.contract.artifact import CPU_GRAPH, WEIGHTS
from jisu.exporter.gate import half
from jisu.exporter.gate.half import check_half_graph, check_half_weights, foreign_types, mixed_types
from jisu.exporter.pipeline import export
from jisu.exporter.sources import load_source
from tests.exporter.passes.draft import Draft

CASES = [("ort-cpu", "fp16"), ("portable", "fp16"), ("portable", "bf16")]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: " ".join(case))
def artifact(request, tiny_source, tmp_path_factory):
    target, precision = request.param
    return export(tiny_source, tmp_path_factory.mktemp("half") / "out", target=target, precision=precision)


@pytest.fixture
def damaged(artifact, tmp_path):
    """A copy of the artifact whose weights may be written into."""
    shutil.copytree(artifact.folder, tmp_path / "copy")
    return replace(artifact, folder=tmp_path / "copy")


@pytest.fixture(scope="module")
def module(tiny_source):
    return load_source(tiny_source).module


def stored(artifact, name: str) -> np.ndarray:
    """A weight of the file as 16-bit words that write through."""
    tensor = ir.load(artifact.graph).graph.initializers[name].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    return np.memmap(
        artifact.folder / WEIGHTS, np.uint16, "r+", offset=tensor.offset or 0, shape=tuple(map(int, tensor.shape))
    )


DOWN = "model.layers.1.mlp.down_proj.weight"


def test_every_weight_of_an_export_is_the_sources(artifact, module):
    check = check_half_weights(artifact.graph, module)
    assert check.passed, check.detail
    count = int(check.detail.split()[0])
    # Embedding, output projection, and in each layer seven matrices; where qkv and gate-up are merged, four.
    assert count == (2 + 3 * 4 if artifact.manifest.target == "ort-cpu" else 2 + 3 * 7)
    assert all(check.passed for check in check_half_graph(artifact.graph, artifact.cpu_graph))


def test_a_number_that_is_off_by_one_unit_is_found(damaged, module):
    weight = stored(damaged, DOWN)
    weight[17, 5] ^= 1
    weight.flush()
    check = check_half_weights(damaged.graph, module)
    assert not check.passed
    assert check.value == 1
    assert DOWN in check.detail


def test_two_rows_that_changed_places_are_found(damaged, module):
    weight = stored(damaged, "model.embed_tokens.weight")
    weight[[30, 31]] = weight[[31, 30]]
    weight.flush()
    check = check_half_weights(damaged.graph, module)
    assert not check.passed
    assert "model.embed_tokens.weight" in check.detail


def test_a_file_without_half_weights_is_no_half_precision(tiny_artifact, module):
    assert not check_half_weights(tiny_artifact.graph, module).passed


def test_a_weight_of_no_parameter_is_found(damaged, module, monkeypatch):
    model = ir.load(damaged.graph)
    model.graph.initializers[DOWN].metadata_props.clear()
    ir.save(model, damaged.graph)
    monkeypatch.setattr(half, "_SMALL", 1000)
    check = check_half_weights(damaged.graph, module)
    assert not check.passed
    assert f"{DOWN}, which is made of no parameter" in check.detail


def test_another_graph_for_processors_is_found(damaged):
    if damaged.cpu_graph == damaged.graph:
        pytest.skip("the target has one graph")
    model = ir.load(damaged.folder / CPU_GRAPH)
    node = next(node for node in model.graph if node.op_type == "RMSNormalization")
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.5)
    ir.save(model, damaged.folder / CPU_GRAPH)
    checks = check_half_graph(damaged.graph, damaged.cpu_graph)
    assert [check.name for check in checks if not check.passed] == ["cpu-graph"]


def test_an_operator_that_mixes_types_is_named():
    draft = Draft()
    x, y = draft.input("x", 3), draft.input("y", 3, dtype=ir.DataType.FLOAT16)
    model = draft.model(z=draft.op("Add", x, y))
    (actual,) = mixed_types(model.graph)
    assert actual.startswith("Add ")
    assert "(FLOAT and FLOAT16)" in actual


def test_an_operator_of_a_type_that_the_standard_does_not_give_it_is_named():
    draft = Draft()
    half = draft.input("x", dtype=ir.DataType.FLOAT16)
    model = draft.model(y=draft.op("Range", half, half, half, dims=["T"]))
    (actual,) = foreign_types(model)
    assert actual.startswith("Range ")
    assert actual.endswith("(FLOAT16)")
    unknown = Draft()
    model = unknown.model(y=unknown.op("Nonsense", unknown.input("x", dtype=ir.DataType.FLOAT16)))
    assert foreign_types(model)[-1].endswith("(no operator of opset 24)")


def test_the_gate_refuses_such_a_graph(damaged):
    model = ir.load(damaged.graph)
    for node in model.graph:
        if node.op_type == "RMSNormalization":
            node.op_type = "BitwiseNot"
    ir.save(model, damaged.graph)
    check = check_half_graph(damaged.graph, damaged.graph)[0]
    assert not check.passed
    assert "the standard does not give them, first BitwiseNot" in check.detail


def test_the_whole_graph_passes_onnx_own_strict_checks(artifact):
    import onnx

    for graph in {artifact.graph, artifact.cpu_graph}:
        onnx.checker.check_model(str(graph), full_check=True)
        inferred = onnx.shape_inference.infer_shapes(
            onnx.load(str(graph), load_external_data=False), check_type=True, strict_mode=True, data_prop=True
        )
        assert inferred.graph.node


def test_no_operator_of_the_whole_graph_mixes_float_types(artifact):
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(str(artifact.graph), load_external_data=False))
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.input)}
    kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    for node in model.graph.node:
        if node.op_type != "Cast":
            assert len({kinds.get(name) for name in node.input} & floats) <= 1, node.name or node.op_type
    logits = next(value for value in model.graph.output if value.name == "logits")
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("size", [1, 64, 1 << 26])
def test_weights_are_compared_some_rows_at_a_time(monkeypatch, size):
    monkeypatch.setattr(half, "_PIECE_BYTES", size)
    rows = torch.arange(35, dtype=torch.float32).reshape(7, 5)
    other, square, vector = rows + 50, torch.arange(9.0).reshape(3, 3), torch.arange(6.0)
    dtype = np.dtype(np.float16)
    cases = [
        (rows.numpy(), [rows]),
        (rows.T.numpy(), [rows]),
        (np.concatenate([rows.T, other.T], axis=1), [rows, other]),
        (square.numpy(), [square]),
        (square.T.numpy(), [square]),
        (vector.numpy(), [vector]),
        (vector[3].numpy(), [vector[3]]),
    ]
    for stored, parts in cases:
        right = stored.astype(dtype)
        assert half._differences(right, parts, dtype) == 0
        wrong = right.copy()
        wrong.flat[-1] += 1
        assert half._differences(wrong, parts, dtype) == 1
    assert half._differences(np.zeros((2, 2), dtype), [rows], dtype) == 4
