from __future__ import annotations

import json

import pytest
import torch

import jisu
from jisu.exporter.contract.errors import InputError
from jisu.exporter.quantization.matrices import describe_uncovered, matrices_of
from jisu.exporter.sources import load_source
from jisu.exporter.sources.linear_layers import use_linear_layers
from tests.support.models import TINY_VOCAB, random_model, write_tiny


def gpt2_config():
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=TINY_VOCAB, n_positions=512, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1
    )


def test_transposed_layers_become_linear_ones_and_give_the_same_logits():
    model = random_model(gpt2_config()).eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before = model(ids).logits
        assert use_linear_layers(model) == 8
        after = model(ids).logits
    assert torch.allclose(after, before, atol=1e-5 * float(before.std()))
    layer = model.transformer.h[0].attn.c_attn
    assert isinstance(layer, torch.nn.Linear)
    assert layer.weight.shape == (192, 64)
    assert not layer.weight.requires_grad
    assert use_linear_layers(model) == 0


def test_a_model_of_that_kind_is_quantized_in_all_its_layers(tmp_path):
    folder = write_tiny(tmp_path / "source", gpt2_config())
    out = tmp_path / "out"
    assert jisu.main(["export", str(folder), "--out", str(out), "--precision", "int8", "--quiet"]) == 0
    (entry,) = json.loads((out / "manifest.json").read_text())["quantization"]["formats"][:1]
    assert "transformer.h.1.mlp.c_fc" in entry["names"]
    outline = load_source(folder, outline=True)
    assert len(matrices_of(outline.module)) == 4 * 2 + 2


def test_weights_that_are_in_no_linear_layer_are_said():
    model = random_model(gpt2_config())
    use_linear_layers(model)
    matrices = matrices_of(model)
    assert describe_uncovered(model, matrices) is None
    model.transformer.h[1].experts = torch.nn.Parameter(torch.zeros(4, 64, 64))
    said = describe_uncovered(model, matrices)
    assert said is not None
    assert "belong to no linear layer: transformer.h.1.experts" in said
    with pytest.raises(InputError, match="no linear layers that could be quantized"):
        describe_uncovered(model, [matrix for matrix in matrices if matrix.embedding])
