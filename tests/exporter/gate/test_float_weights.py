from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.gate.float_weights import check_float_weights
from jisu.exporter.sources import load_source
from tests.exporter.gate.damage import change, damaged


@pytest.fixture(scope="module")
def module(tiny_source):
    return load_source(tiny_source).module


def one(index, number):
    def edit(array):
        array[index] = number
        return array

    return edit


def test_every_weight_of_an_export_is_the_sources(tiny_artifact, module):
    actual = check_float_weights(tiny_artifact.graph, module)
    assert actual.passed
    assert actual.detail.startswith("21 weights are the source's, number by number; 2 constants")


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("model.embed_tokens.weight", one((383, 5), np.nan), "Element [383, 5] of model.embed_tokens.weight is nan"),
        ("lm_head.weight", lambda array: np.nextafter(array, np.float32(9)), "numbers more differ"),
        ("model.layers.0.self_attn.qkv_proj.weight", one((0, 0), 7), "qkv_proj.weight is 7 where"),
        ("model.layers.2.mlp.gate_up_proj.weight", one((3, 200), 7), "[3, 200] of model.layers.2.mlp.gate_up_proj"),
        ("model.layers.1.input_layernorm.weight", one(3, 7), "Element [3] of model.layers.1.input_layernorm.weight"),
    ],
    ids=["unused-row", "last-bits", "merged", "merged-later", "norm"],
)
def test_a_number_that_differs_is_named(name, edit, words, tiny_artifact, tmp_path, module):
    graph = damaged(tiny_artifact, tmp_path / "damaged", lambda model: change(model, name, edit))
    actual = check_float_weights(graph, module)
    assert not actual.passed
    assert words in actual.detail


def test_parts_of_a_merged_weight_in_another_order_are_found(tiny_artifact, tmp_path, module):
    def exchange(array):
        return np.concatenate([array[:, 128:], array[:, :128]], axis=1)

    name = "model.layers.1.mlp.gate_up_proj.weight"
    graph = damaged(tiny_artifact, tmp_path / "damaged", lambda model: change(model, name, exchange))
    assert not check_float_weights(graph, module).passed


def test_merged_weights_of_files_without_the_names_of_their_parts_are_followed(tiny_artifact, tmp_path, module):
    def forget(model):
        for value in model.graph.initializers.values():
            value.metadata_props.clear()

    graph = damaged(tiny_artifact, tmp_path / "forgetful", forget)
    assert check_float_weights(graph, module).detail.startswith("21 weights")

    def forget_and_change(model):
        forget(model)
        change(model, "model.layers.0.self_attn.qkv_proj.weight", one((5, 70), 7))

    graph = damaged(tiny_artifact, tmp_path / "damaged", forget_and_change)
    assert "k_proj.weight in model.layers.0.self_attn.qkv_proj" in check_float_weights(graph, module).detail
