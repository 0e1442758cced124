from __future__ import annotations

import pytest

from jisu.exporter.sources.config_reads import converted_keys, declared_keys, model_keys, rope_keys

torch = pytest.importorskip("torch", reason="sources are torch models")


def test_declared_keys_are_those_of_the_class_and_their_other_spellings() -> None:
    from transformers import GPT2Config, LlamaConfig

    assert {"hidden_size", "max_position_embeddings", "tie_word_embeddings"} <= declared_keys(LlamaConfig)
    assert {"n_embd", "hidden_size"} <= declared_keys(GPT2Config)
    assert not {"self", "kwargs", "sliding_window"} & declared_keys(LlamaConfig)


def test_older_spellings_are_found_in_the_source_of_the_class() -> None:
    from transformers import Gemma3TextConfig, LlamaConfig

    assert "rope_local_base_freq" in converted_keys(Gemma3TextConfig)
    assert "rope_local_base_freq" not in converted_keys(LlamaConfig)


def test_the_source_of_the_model_tells_what_it_reads() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    with torch.device("meta"):
        model = MistralForCausalLM(
            MistralConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=8)
        )
    assert {"rms_norm_eps", "sliding_window", "rope_parameters"} <= model_keys(model)
    assert "final_logit_softcapping" not in model_keys(model)


def test_each_kind_of_rotary_positions_reads_its_own_settings() -> None:
    assert {"beta_fast", "mscale", "truncate"} <= rope_keys("yarn")
    assert {"low_freq_factor", "high_freq_factor"} <= rope_keys("llama3")
    assert "low_freq_factor" not in rope_keys("yarn")
    assert "factor" not in rope_keys("default")
