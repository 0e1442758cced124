from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.helper as oh
import pytest
import torch

from jisu.exporter.contract.signature import Signature, StateSpec, TensorSpec
from jisu.exporter.graph.localize import LAYERS_KEY, compare_layers, hidden_error, locate_layer

VOCAB, HIDDEN, LAYERS = 20, 8, 4
IDS = np.array([3, 1, 4, 1, 5], dtype=np.int64)


class Stack(torch.nn.Module):
    """Embedding, layers x + relu(x W), output: enough to have layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(VOCAB, HIDDEN)
        self.layers = torch.nn.ModuleList(Residual() for _ in range(LAYERS))

    def forward(self, ids):
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)[0]
        return x @ self.embedding.weight.T


class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(HIDDEN, HIDDEN))

    def forward(self, x):
        return (x + torch.relu(x @ self.weight),)


class Reference:
    def __init__(self, module):
        self.module = module

    def logits(self, token_ids, positions=None):
        with torch.inference_mode():
            return self.module(torch.from_numpy(token_ids)[None])[0].numpy()


@pytest.fixture
def stack():
    return Stack()


def write_graph(folder, stack, *, order=range(LAYERS), listed=None, edit=None):
    weights = {f"w{i}": layer.weight.detach().numpy().copy() for i, layer in enumerate(stack.layers)}
    if edit:
        edit(weights)
    weights["table"] = stack.embedding.weight.detach().numpy()
    nodes = [oh.make_node("Gather", ["table", "input_ids"], ["x0"])]
    for slot, layer in enumerate(order):
        nodes += [
            oh.make_node("MatMul", [f"x{slot}", f"w{layer}"], [f"m{slot}"]),
            oh.make_node("Relu", [f"m{slot}"], [f"r{slot}"]),
            oh.make_node("Add", [f"x{slot}", f"r{slot}"], [f"x{slot + 1}"]),
        ]
    nodes += [
        oh.make_node("Transpose", ["table"], ["head"], perm=[1, 0]),
        oh.make_node("MatMul", [f"x{LAYERS}", "head"], ["logits"]),
        oh.make_node("Identity", ["past.0"], ["present.0"]),
    ]
    graph = oh.make_graph(
        nodes,
        "stack",
        [
            oh.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["B", "T"]),
            oh.make_tensor_value_info("past.0", onnx.TensorProto.FLOAT, ["B", 2, "capacity", 4]),
        ],
        [
            oh.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["B", "T", VOCAB]),
            oh.make_tensor_value_info("present.0", onnx.TensorProto.FLOAT, ["B", 2, "capacity", 4]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 21)], ir_version=10)
    names = [f"x{i + 1}" for i in range(LAYERS)] if listed is None else listed
    if names:
        oh.set_model_props(model, {LAYERS_KEY: json.dumps(names)})
    path = folder / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    return path


def arguments(stack):
    dims = ("B", 2, "capacity", 4)
    signature = Signature(
        inputs=(TensorSpec(name="input_ids", dtype="int64", dims=("B", "T")),),
        outputs=(TensorSpec(name="logits", dtype="float32", dims=("B", "T", VOCAB)),),
        state=(StateSpec(past="past.0", present="present.0", kind="kv", dtype="float32", dims=dims),),
    )
    return {"signature": signature, "reference": Reference(stack), "layers": stack.layers, "token_ids": IDS}


def test_equal_layers_have_no_first_difference(stack, tmp_path):
    actual = compare_layers(write_graph(tmp_path, stack), **arguments(stack))
    assert actual.first is None
    assert max(actual.errors) < 1e-5
    assert "No decoder layer that can be seen differs" in actual.sentence


def test_an_unseen_last_layer_is_named_when_all_others_agree(stack, tmp_path):
    path = write_graph(
        tmp_path, stack, listed=["x1", "x2", "x3", None], edit=lambda weights: weights["w3"].__imul__(1.1)
    )
    assert "look at layers 3 (which the graph does not show)" in compare_layers(path, **arguments(stack)).sentence


def test_a_position_of_huge_values_does_not_hide_the_others():
    truth = np.ones((2, 4), dtype=np.float32)
    truth[0] *= 1e6
    candidate = truth.copy()
    candidate[1, 2] += 0.5
    assert hidden_error(truth, candidate) == pytest.approx(0.5)


def test_an_altered_layer_is_the_first_that_differs(stack, tmp_path):
    path = write_graph(tmp_path, stack, edit=lambda weights: weights["w2"].__imul__(1.1))
    actual = compare_layers(path, **arguments(stack))
    assert actual.first == 2
    assert max(actual.errors[:2]) < 1e-5
    assert locate_layer(path, **arguments(stack)) == "The first decoder layer that differs is layer 2."


def test_swapped_layers_are_found_at_the_first_of_them(stack, tmp_path):
    path = write_graph(tmp_path, stack, order=[0, 2, 1, 3])
    assert compare_layers(path, **arguments(stack)).first == 1


def test_nan_counts_as_differing(stack, tmp_path):
    def edit(weights):
        weights["w3"][0, 0] = np.nan

    assert compare_layers(write_graph(tmp_path, stack, edit=edit), **arguments(stack)).first == 3


def test_a_layer_that_fusion_took_away_is_said_to_be_unseen(stack, tmp_path):
    path = write_graph(
        tmp_path, stack, listed=["x1", None, "x3", "x4"], edit=lambda weights: weights["w1"].__imul__(1.1)
    )
    actual = compare_layers(path, **arguments(stack))
    assert actual.first == 2
    assert actual.errors[1] is None
    assert "layer 2 or 1, which the graph does not show" in actual.sentence


def test_a_name_the_graph_no_longer_has_is_treated_as_unseen(stack, tmp_path):
    path = write_graph(tmp_path, stack, listed=["x1", "gone", "x3", "x4"])
    assert compare_layers(path, **arguments(stack)).errors[1] is None


def test_a_graph_that_does_not_list_its_layers_tells_nothing(stack, tmp_path):
    assert locate_layer(write_graph(tmp_path, stack, listed=[]), **arguments(stack)) is None


def test_too_few_names_tell_nothing(stack, tmp_path):
    assert locate_layer(write_graph(tmp_path, stack, listed=["x1", "x2"]), **arguments(stack)) is None


def test_nothing_is_written_beside_the_graph_and_hooks_are_removed(stack, tmp_path):
    path = write_graph(tmp_path, stack)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    compare_layers(path, **arguments(stack))
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before
    assert not any(layer._forward_hooks for layer in stack.layers)
