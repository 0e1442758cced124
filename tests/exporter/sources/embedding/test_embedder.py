"""The module of an embedding model against what its steps are by hand, and steps that cannot be built."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.embedding.embedder import Dense
from tests.support.models import write_tiny_embedder

ROW = torch.tensor([[3, 4, 5, 6]])


def vector(source):
    return source.module(ROW, torch.ones_like(ROW)).sentence_embedding


def test_a_vector_is_the_mean_through_the_dense_layer_at_length_one(tiny_embedder_source):
    source = load_source(tiny_embedder_source)
    states = source.module.transformer(ROW)[0].mean(1)
    stored = load_file(tiny_embedder_source / "2_Dense" / "model.safetensors")
    dense = torch.tanh(states @ stored["linear.weight"].T + stored["linear.bias"])
    torch.testing.assert_close(vector(source), dense / dense.norm())
    facts = source.model
    assert (facts.embedding.dimensions, facts.embedding.normalized, facts.max_positions) == (48, True, 128)
    assert facts.embedding.prompts == {"query": "query: ", "document": ""} and facts.embedding.similarity == "dot"
    assert facts.parameters == sum(one.numel() for one in source.module.parameters())


def test_poolings_stand_behind_each_other_and_a_norm_is_read(tmp_path):
    steps = (("LayerNorm", {"dimension": 128}), ("Dropout", {"dropout": 0.5}))
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}
    source = load_source(write_tiny_embedder(tmp_path, pooling=pooling, steps=steps))
    states = source.module.transformer(ROW)[0]
    both = torch.cat([states[:, 0], states.amax(1)], dim=1)
    stored = load_file(tmp_path / "2_LayerNorm" / "model.safetensors")
    expected = torch.nn.functional.layer_norm(both, (128,), stored["norm.weight"], stored["norm.bias"])
    torch.testing.assert_close(vector(source), expected)
    assert not source.model.embedding.normalized


def test_a_residual_of_another_size_goes_through_its_own_layer():
    dense = Dense((4, 2), bias=False, activation=torch.nn.Identity(), residual=True)
    one = torch.randn(3, 4)
    torch.testing.assert_close(dense(one), one @ dense.linear.weight.T + one @ dense.residual.weight.T)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"in_features": 63, "out_features": 8}, "in_features 63 where vectors have 64 numbers"),
        ({"in_features": 64, "out_features": 8, "module_input_name": "token_embeddings"}, "module_input_name"),
        ({"in_features": 64, "out_features": 8, "activation_function": "os.system"}, "activation_function 'os.system'"),
        ({"in_features": 64, "out_features": 8, "activation_function": "torch.nn.Linear"}, "needs settings"),
        ({"in_features": 64, "out_features": 2**63}, "out_features 9223372036854775808"),
        ({"in_features": 64, "out_features": 8, "shape": 1}, "Received: shape"),
    ],
)
def test_a_dense_layer_that_is_not_understood_is_refused(tmp_path, facts, words):
    write_tiny_embedder(tmp_path, steps=(("Dense", {"in_features": 64, "out_features": 8}),))
    (tmp_path / "2_Dense" / "config.json").write_text(json.dumps(facts))
    for outline in (True, False):
        with pytest.raises(InputError, match=words):
            load_source(tmp_path, outline=outline)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"linear.weight": (8, 64)}, "linear.bias is missing"),
        ({"linear.weight": (8, 63), "linear.bias": (8,)}, r"is \[8, 63\] instead of \[8, 64\]"),
        ({"linear.weight": (8, 64), "linear.bias": (8,), "more": (1,)}, "more has no place"),
    ],
)
def test_weights_of_a_step_are_all_there_or_refused(tmp_path, tensors, words):
    write_tiny_embedder(tmp_path, steps=(("Dense", {"in_features": 64, "out_features": 8}),))
    save_file({name: torch.zeros(size) for name, size in tensors.items()}, tmp_path / "2_Dense" / "model.safetensors")
    with pytest.raises(InputError, match=words):
        load_source(tmp_path)


def test_a_step_in_a_pickle_is_read_on_request_only(tmp_path):
    write_tiny_embedder(tmp_path, steps=(("Dense", {"in_features": 64, "out_features": 8}),))
    place = tmp_path / "2_Dense"
    expected = vector(load_source(tmp_path))
    torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    with pytest.raises(InputError, match="a pickle file, which can run code"):
        load_source(tmp_path)
    torch.testing.assert_close(vector(load_source(tmp_path, allow_pickle=True)), expected)
    (place / "pytorch_model.bin").write_bytes(b"none")
    with pytest.raises(InputError, match="cannot be read"):
        load_source(tmp_path, allow_pickle=True)


@pytest.mark.parametrize(("longest", "said"), [(1024, 1), (64, 0), (None, 0)])
def test_a_longest_text_beyond_the_models_positions_is_said(tmp_path, longest, said):
    source = load_source(write_tiny_embedder(tmp_path, longest=longest), outline=False)
    assert sum("max_seq_length is 1024" in note for note in source.notes) == said
