from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.sources.account import Account
from jisu.exporter.sources.config_keys import account_for_config
from tests.support.models import llama_config

torch = pytest.importorskip("torch", reason="sources are torch models")
HONEST: dict[str, Any] = {
    **llama_config(layers=1).to_dict(),
    "torch_dtype": "bfloat16",
    "architectures": ["LlamaForCausalLM"],
}


@pytest.fixture(scope="module")
def empty() -> Any:
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(llama_config(layers=1))


def _account(empty: Any, stated: dict[str, Any]) -> Account:
    from transformers import LlamaConfig

    return account_for_config(Account(), stated, LlamaConfig.from_dict(dict(stated)), empty)


def _fates(empty: Any, **changes: Any) -> dict[str, tuple[str, str]]:
    account = _account(empty, {**HONEST, **changes})
    return {one.name: (one.fate, one.why) for one in account.statements if one.name.split(".")[0] in changes}


def test_an_honest_configuration_is_used_or_harmless(empty: Any) -> None:
    account = _account(empty, HONEST)
    assert {one.fate for one in account.statements} == {"used", "harmless"}
    assert "hidden_size" in account.names("used")
    assert {"torch_dtype", "_name_or_path"} <= set(account.names("harmless"))
    assert account.notes() == ()


def test_what_tools_leave_behind_is_harmless(empty: Any) -> None:
    left = {
        "_name_or_path": "x",
        "is_llama_config": True,
        "rope_interleaved": False,
        "unsloth_version": "2024.9",
        "transformers.js_config": {"dtype": "q4"},
        "sliding_window": None,
        "logit_scale": 1.0,
        "router_aux_loss_coef": 0.02,
        "n_layer": 1,
        "max_length": 4096,
        "shiny": None,
    }
    assert {fate for fate, _ in _fates(empty, **left).values()} == {"harmless"}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sliding_window", 512, "no such part"),
        ("final_logit_softcapping", 30.0, "no such part"),
        ("embedding_multiplier", 12.0, "no such part"),
        ("rope_interleaved", True, "no such part"),
        ("use_parallel_residual", True, "no such part"),
        ("partial_rotary_factor", 0.5, "no such part"),
        ("transformers_weights", "other.safetensors", "no such part"),
        ("n_layer", 3, "num_hidden_layers, which is 1"),
        ("activation_function", "gelu", "hidden_act, which is 'silu'"),
    ],
)
def test_a_part_that_the_class_does_not_have_is_refused(empty: Any, key: str, value: Any, words: str) -> None:
    fate, why = _fates(empty, **{key: value})[key]
    assert fate == "refused"
    assert words in why


@pytest.mark.parametrize(
    ("key", "damaged"),
    [
        ("max_position_embeddings", "max_position_embeddingz"),
        ("rms_norm_eps", "rms_norm_es"),
        ("hidden_act", "hidden_atc"),
        ("rope_parameters", "rope_parametres"),
        ("eos_token_id", "eos_token_ie"),
    ],
)
def test_a_key_that_resembles_one_that_is_not_stated_is_refused(empty: Any, key: str, damaged: str) -> None:
    stated = {damaged if name == key else name: value for name, value in HONEST.items()}
    (one,) = [one for one in _account(empty, stated).statements if one.name == damaged]
    assert one.fate == "refused"
    assert key in one.why


@pytest.mark.parametrize(("key", "fate"), [("mask_token_id", "used"), ("eos_token_eos_token_id", "unread")])
def test_only_tokens_that_models_have_are_taken_for_used(empty: Any, key: str, fate: str) -> None:
    assert _fates(empty, **{key: 7})[key][0] == fate


def test_keys_of_no_known_meaning_and_lengths_are_told(empty: Any) -> None:
    fates = _fates(empty, shiny_option=3, max_sequence_length=2048, torch_dtypf="x")
    assert {fate for fate, _ in fates.values()} == {"unread"}
    assert "512" in fates["max_sequence_length"][1]
    account = _account(empty, {**HONEST, "no_repeat_ngram_size": 3})
    assert account.names("unread", "generation") == ["no_repeat_ngram_size"]


def test_a_window_that_is_switched_off_is_harmless(empty: Any) -> None:
    assert _fates(empty, sliding_window=512, use_sliding_window=False)["sliding_window"][0] == "harmless"


def test_a_value_that_the_class_replaces_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    stated = {"model_type": "gpt2", "n_embd": 32, "hidden_size": 64, "n_layer": 1, "n_head": 2, "vocab_size": 64}
    config = GPT2Config.from_dict(dict(stated))
    with torch.device("meta"):
        empty = GPT2LMHeadModel(config)
    account = account_for_config(Account(), stated, config, empty)
    assert len(account.names("refused")) == 1
    assert "makes" in next(one.why for one in account.statements if one.fate == "refused")


def test_nested_configurations_have_their_own_names() -> None:
    from transformers import MptConfig, MptForCausalLM

    stated = {"model_type": "mpt", "d_model": 32, "n_layers": 1, "n_heads": 2, "vocab_size": 64}
    stated["attn_config"] = {"attn_type": "multihead_attention", "alibi_bias_maz": 4, "clip_qkv": None}
    config = MptConfig.from_dict(dict(stated))
    with torch.device("meta"):
        empty = MptForCausalLM(config)
    account = account_for_config(Account(), stated, config, empty)
    assert account.names("refused") == ["attn_config.alibi_bias_maz"]
    assert "attn_config.clip_qkv" in account.names("used")


def test_another_architecture_than_the_loaded_one_is_told(empty: Any) -> None:
    fate, why = _fates(empty, architectures=["LlamaModel"])["architectures"]
    assert fate == "unread"
    assert "LlamaForCausalLM" in why


@pytest.mark.parametrize("damaged", ["eostoken_id", "_hidden_act", "is_causbl"])
def test_no_ending_or_underscore_excuses_a_damaged_key(empty: Any, damaged: str) -> None:
    meant = {"eostoken_id": "eos_token_id", "_hidden_act": "hidden_act", "is_causbl": "is_causal"}[damaged]
    stated = {name: value for name, value in HONEST.items() if name != meant}
    (one,) = [one for one in _account(empty, {**stated, damaged: 3}).statements if one.name == damaged]
    assert one.fate == "refused"
    assert meant in one.why
