from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.sources.stored_names import match_names, missing_weights, without_prefix
from tests.support.models import llama_config

torch = pytest.importorskip("torch", reason="sources are torch models")


@pytest.fixture(scope="module")
def empty() -> Any:
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(llama_config(layers=1))


@pytest.fixture(scope="module")
def experts() -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    with torch.device("meta"):
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, num_experts=2, vocab_size=64, moe_intermediate_size=8))


def test_names_become_weights_with_and_without_the_name_of_the_body(empty: Any) -> None:
    actual = match_names(empty, ["model.norm.weight", "norm.weight", "model.norm.bias"])
    assert actual["model.norm.weight"].targets == actual["norm.weight"].targets == ("model.norm.weight",)
    assert actual["model.norm.bias"].targets == ()
    assert actual["model.norm.bias"].renamed == "model.norm.bias"


def test_merged_experts_are_one_weight_and_converted(experts: Any) -> None:
    name = "model.layers.0.mlp.experts.1.up_proj.weight"
    match = match_names(experts, [name])[name]
    assert match.targets == ("model.layers.0.mlp.experts.gate_up_proj",)
    assert match.converted


def test_a_tied_weight_is_there_under_any_of_its_names(empty: Any) -> None:
    empty.tie_weights()
    stored = [name for name, _ in empty.named_parameters(remove_duplicate=False)]
    assert missing_weights(empty, match_names(empty, [one for one in stored if one != "lm_head.weight"])) == set()
    assert missing_weights(empty, match_names(empty, [one for one in stored if one != "model.norm.weight"])) == {
        "model.norm.weight"
    }


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model.", "module._orig_mod.", "a.b."])
def test_what_wrappers_put_before_every_name_is_taken_off(empty: Any, prefix: str) -> None:
    stored = [name for name, _ in empty.named_parameters()]
    names, prefixes = without_prefix(empty, [prefix + name for name in stored])
    assert names == {prefix + name: name for name in stored}
    assert sorted("".join(prefixes)) == sorted(prefix)


def test_a_wrapper_within_a_name_is_taken_off(empty: Any) -> None:
    stored = [name for name, _ in empty.named_parameters()]
    names, prefixes = without_prefix(empty, [name.replace("layers.0.", "layers.0._orig_mod.") for name in stored])
    assert list(names.values()) == stored
    assert prefixes == ("_orig_mod.",)


def test_names_that_fit_or_share_nothing_stay(empty: Any) -> None:
    stored = [name for name, _ in empty.named_parameters()]
    assert without_prefix(empty, stored) == ({name: name for name in stored}, ())
    mixed = [f"module.{stored[0]}", *stored[1:]]
    assert without_prefix(empty, mixed) == ({name: name for name in mixed}, ())
    assert without_prefix(empty, []) == ({}, ())
