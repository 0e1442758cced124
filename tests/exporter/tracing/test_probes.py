from __future__ import annotations

import functools

import pytest
import torch
from transformers import (
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    MambaConfig,
    MixtralConfig,
    OPTConfig,
    Qwen3NextConfig,
)

from jisu.exporter.tracing import causal_lm
from jisu.exporter.tracing.causal_lm import CausalLM
from jisu.exporter.tracing.probes import call_on_meta, cut_down
from tests.support.models import TINY_VOCAB, llama_config, random_model

SIZES = {
    "vocab_size": TINY_VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": 0,
}
CONFIGURATIONS = {
    "llama": lambda: llama_config(layers=4),
    "gemma2": lambda: Gemma2Config(**SIZES, sliding_window=4),
    "gemma3": lambda: Gemma3TextConfig(
        **SIZES, sliding_window=4, layer_types=["sliding_attention", "full_attention"] * 3
    ),
    "mixtral": lambda: MixtralConfig(**SIZES, num_local_experts=4),
    "gpt2": lambda: GPT2Config(vocab_size=TINY_VOCAB, n_embd=32, n_layer=4, n_head=2, n_positions=64),
    "opt": lambda: OPTConfig(
        vocab_size=TINY_VOCAB,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=4,
        num_attention_heads=2,
        word_embed_proj_dim=32,
    ),
    "cohere": lambda: CohereConfig(**SIZES),
    "mamba": lambda: MambaConfig(hidden_size=16, num_hidden_layers=4, vocab_size=TINY_VOCAB, state_size=4),
    "qwen3_next": lambda: Qwen3NextConfig(
        **SIZES,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        linear_num_key_heads=1,
        linear_num_value_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        layer_types=["linear_attention", "full_attention"] * 3,
    ),
}
KNOWN = ("_cache_name", "_layers", "_state_spec", "_spare", "_attention", "_calling", "max_positions")


@pytest.mark.parametrize("family", CONFIGURATIONS)
def test_a_large_model_is_called_as_if_all_of_it_had_been_asked(family, monkeypatch):
    model = random_model(CONFIGURATIONS[family]()).eval()
    expected = {name: getattr(CausalLM(model), name) for name in KNOWN}
    monkeypatch.setattr(causal_lm, "PAGED_FROM", 0)
    assert {name: getattr(CausalLM(model), name) for name in KNOWN} == expected


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "opt", "cohere"])
def test_most_layers_and_the_output_projection_are_not_read(family, monkeypatch):
    model = random_model(CONFIGURATIONS[family]()).eval()
    monkeypatch.setattr(causal_lm, "PAGED_FROM", 0)
    read = []

    def note(module, arguments, options):
        inputs = [one for one in (*arguments, *options.values()) if isinstance(one, torch.Tensor)]
        if any(one.device.type != "meta" for one in inputs):
            read.append(module)

    last = next(child for child in model.modules() if isinstance(child, torch.nn.ModuleList))[-1]
    last.register_forward_pre_hook(note, with_kwargs=True)
    head = model.get_output_embeddings()
    forward = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional,
        "linear",
        lambda value, weight, *more: (
            read.append(head) if weight.shape[0] == head.weight.shape[0] and weight.device.type != "meta" else None,
            forward(value, weight, *more),
        )[1],
    )
    CausalLM(model)
    assert read == []


def test_shapes_need_no_numbers():
    model = random_model(llama_config()).eval()
    with torch.inference_mode():
        output = call_on_meta(model, input_ids=torch.arange(3)[None])
    assert output.logits.device.type == "meta"
    assert output.logits.shape == (1, 3, TINY_VOCAB)
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_a_model_has_all_its_layers_again_whatever_happens():
    model = random_model(llama_config(layers=4)).eval()
    ids = torch.arange(3)[None]
    with torch.inference_mode():
        before = model(ids).logits
    with pytest.raises(ZeroDivisionError), cut_down(model) as layers:
        assert layers == len(model.model.layers) == 2
        assert model(ids).logits.shape[-1] == model.config.hidden_size
        raise ZeroDivisionError
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, before)


def test_a_model_of_few_layers_is_asked_as_a_whole():
    with cut_down(random_model(llama_config()).eval()) as layers:
        assert layers is None


def test_what_cannot_be_asked_on_meta_or_cut_down_is_asked_whole(monkeypatch):
    model = random_model(llama_config(layers=4)).eval()
    expected = CausalLM(model).state_spec()
    monkeypatch.setattr(causal_lm, "PAGED_FROM", 0)
    forward, counts = model.forward, []

    @functools.wraps(forward)
    def by_numbers(**arguments):
        counts.append(len(model.model.layers))
        if arguments["input_ids"].device.type == "meta" or counts[-1] < 4:
            raise RuntimeError("it depends on numbers")
        return forward(**arguments)

    model.forward = by_numbers
    assert CausalLM(model).state_spec() == expected
    assert 2 in counts
