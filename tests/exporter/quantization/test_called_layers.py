from __future__ import annotations

import pytest
import torch
from torch import nn

from jisu.exporter.quantization import called_layers
from jisu.exporter.quantization.called_layers import calls_of
from tests.support.mixtures import small_mixture
from tests.support.models import llama_config, random_model, text_to_text_config


def decoder_alone():
    from transformers import MarianForCausalLM

    return MarianForCausalLM(text_to_text_config(is_decoder=True, is_encoder_decoder=False)).eval()


def linear(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def test_attention_to_an_encoder_that_is_not_there_is_not_called():
    model = decoder_alone()
    calls = calls_of(model)
    uncalled = {name.split(".")[-2] for name, layer in linear(model).items() if not calls(layer)}
    assert uncalled == {"encoder_attn"}


@pytest.mark.parametrize("make", [small_mixture, lambda: random_model(llama_config())])
def test_all_layers_of_other_models_are_called(make):
    model = make()
    assert all(map(calls_of(model), linear(model).values()))


def test_weights_are_read_only_where_they_are_few(monkeypatch):
    """The mask of this model depends on numbers, so that a call without weights fails."""
    monkeypatch.setattr(called_layers, "_FEW_BYTES", 0)
    model = decoder_alone()
    assert all(map(calls_of(model), linear(model).values()))


def test_an_expert_that_no_token_of_the_call_reached_counts_by_its_likes():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
            self.other = nn.Linear(4, 4)

    model = Routed()
    layers = list(linear(model).values())
    called = {id(model.experts[0])}
    assert called_layers._of_no_called_kind(model, layers, called) == {id(model.other)}


def test_a_module_of_ones_own_is_called_as_it_stands():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out, self.unused = nn.Embedding(8, 4), nn.Linear(4, 8), nn.Linear(4, 4)

        def forward(self, ids):
            return self.out(self.embed(ids))

    own = Own()
    calls = calls_of(own)
    assert (calls(own.embed), calls(own.out), calls(own.unused)) == (True, True, False)
    assert torch.is_grad_enabled()
