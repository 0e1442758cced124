"""What a GGUF file states about its model is what the model is built with, or the file is refused by the key's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from tests.support.gguf_models import FAMILIES, POSITIONS, VOCAB, family_model, write_family

pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_gives_the_logits_of_its_model(family: str, tmp_path: Path) -> None:
    import torch

    model = family_model(family)
    loaded = load_source(write_family(tmp_path / "model.gguf", family, model))
    ids = torch.randint(0, VOCAB, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, actual = model(ids, use_cache=False).logits, loaded.module(ids, use_cache=False).logits
    # The same float32 weights in the same class: only subtracted and added ones round.
    assert torch.allclose(actual, expected, atol=1e-4 * float(expected.std()))
    assert not loaded.account.names("refused")
    assert len(loaded.account.names("used", "gguf")) >= 7


def test_divisors_for_short_and_long_texts_are_read(tmp_path: Path) -> None:
    import torch

    short, long = [1.0, 1.25], [2.0, 4.0]
    rope = {"rope_type": "longrope", "rope_theta": 777.0, "partial_rotary_factor": 0.5}
    scaled = {"short_factor": short, "long_factor": long, "factor": POSITIONS / 20}
    model = family_model("phi3", rope_parameters={**rope, **scaled}, original_max_position_embeddings=20)
    settings = {
        "phi3.rope.scaling.type": "longrope",
        "phi3.rope.scaling.factor": None,
        "phi3.rope.scaling.original_context_length": 20,
        "phi3.rope.scaling.attn_factor": model.model.rotary_emb.attention_scaling,
    }
    extra = {"rope_factors_short.weight": short, "rope_factors_long.weight": long}
    path = write_family(tmp_path / "model.gguf", "phi3", model, settings=settings, extra=extra)
    loaded = load_source(path).module
    for length in (10, 40):
        ids = torch.randint(0, VOCAB, (1, length), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected, actual = model(ids, use_cache=False).logits, loaded(ids, use_cache=False).logits
        assert torch.allclose(actual, expected, atol=1e-4 * float(expected.std()))
    with pytest.raises(InputError, match="longrope"):
        load_source(write_family(tmp_path / "bare.gguf", "phi3", model, settings=settings), outline=True)


def _outline(path: Path, family: str, **settings: Any) -> Any:
    changes = {key.replace("__", "."): value for key, value in settings.items()}
    arch = FAMILIES[family][0]
    model = family_model(family)
    prefixed = {
        key if key.startswith(("rope_freqs", "xielu", "made")) else f"{arch}.{key}": v for key, v in changes.items()
    }
    return load_source(write_family(path / "model.gguf", family, model, settings=prefixed), outline=True)


@pytest.mark.parametrize(
    ("family", "key", "value", "field", "expected"),
    [
        ("starcoder2", "rope.freq_base", 55555.0, "rope_parameters.rope_theta", 55555.0),
        ("starcoder2", "rope.freq_base", None, "rope_parameters.rope_theta", 10000.0),
        ("starcoder2", "attention.sliding_window", 11, "sliding_window", 11),
        ("starcoder2", "attention.sliding_window", 0, "sliding_window", None),
        ("stablelm", "rope.dimension_count", 2, "rope_parameters.partial_rotary_factor", 0.25),
        ("nemotron", "attention.layer_norm_epsilon", 0.5, "norm_eps", 0.5),
        ("gemma2", "attn_logit_softcapping", 3.0, "attn_logit_softcapping", 3.0),
        ("gemma2", "final_logit_softcapping", 0.0, "final_logit_softcapping", None),
        ("gemma2", "attention.scale", 0.5, "query_pre_attn_scalar", 4.0),
        ("gemma2", "attention.sliding_window", None, "sliding_window", 4096),
        ("gemma3", "rope.freq_base_swa", 123.0, "rope_parameters.sliding_attention.rope_theta", 123.0),
        ("gemma3", "attention.sliding_window_pattern", 2, "layer_types", ["sliding_attention", "full_attention"]),
        ("qwen3", "rope.scaling.factor", 5.0, "rope_parameters.factor", 5.0),
        ("qwen3", "context_length", 17, "max_position_embeddings", 17),
        ("gpt2", "attention.layer_norm_epsilon", 0.25, "layer_norm_epsilon", 0.25),
    ],
)
def test_a_key_reaches_the_configuration(
    family: str, key: str, value: Any, field: str, expected: Any, tmp_path: Path
) -> None:
    actual: Any = _outline(tmp_path, family, **{key: value}).module.config
    for part in field.split("."):
        actual = actual[part] if isinstance(actual, dict) else getattr(actual, part)
    assert actual == expected


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("llama", "logit_scale", 0.5),
        ("llama", "attention.sliding_window", 7),
        ("llama", "expert_count", 8),
        ("llama", "residual_scale", 0.5),
        ("llama", "attention.value_length", 4),
        ("llama", "attention.causal", False),
        ("llama", "attention.head_count", [4, 2]),
        ("llama", "feed_forward_length", [48, 40]),
        ("llama", "rope.scaling.type", "longrope"),
        ("llama", "rope.dimension_count", 4),
        ("llama", "rope.dimension_sections", [2, 2, 0, 0]),
        ("llama", "a_key_of_next_year", 1),
        ("llama", "attention.layer_norm_rms_epsilon", 0.5),
        ("qwen2", "rope.dimension_count", 4),
        ("gemma2", "rope.freq_base_swa", 5.0),
        ("starcoder2", "attention.sliding_window_pattern", [True, False]),
        ("starcoder2", "rope.scaling.yarn_attn_factor", 2.0),
        ("stablelm", "rope.dimension_count", 3),
        ("gpt2", "rope.freq_base", 777.0),
        ("gpt2", "attention.head_count_kv", 2),
        ("llama", "xielu.beta", 0.5),
    ],
)
def test_a_key_without_a_place_is_refused_by_name(family: str, key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        _outline(tmp_path, family, **{key: value})
    said = str(refused.value)
    # Of two keys that contradict each other one is named.
    assert key in said or key.replace("_rms", "") in said or "rotary positions" in said or "do not fit" in said


def test_a_window_that_names_no_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"qwen2.attention.sliding_window \(without .*pattern nothing says"):
        _outline(tmp_path, "qwen2", **{"attention.sliding_window": 7, "attention.sliding_window_pattern": None})


def test_gemma_3_without_a_window_looks_at_everything(tmp_path: Path) -> None:
    import torch

    model = family_model("gemma3")
    left_out = {"gemma3.attention.sliding_window": None, "gemma3.attention.sliding_window_pattern": None}
    source = load_source(write_family(tmp_path / "model.gguf", "gemma3", model, settings=left_out))
    assert set(source.module.config.layer_types) == {"full_attention"}
    ids = torch.arange(40)[None] % VOCAB
    assert source.module(input_ids=ids).logits.isfinite().all()


@pytest.mark.parametrize("key", ["context_length", "embedding_length", "block_count", "attention.layer_norm_epsilon"])
def test_a_missing_key_is_no_default(key: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no {key}"):
        _outline(tmp_path, "starcoder2", **{key: None})


def test_what_changes_no_answer_is_accepted_and_said(tmp_path: Path) -> None:
    source = _outline(tmp_path, "llama", tensor_data_layout="x", **{"rope.scaling.finetuned": True, "made.by": "me"})
    assert source.account.names("harmless", "gguf") >= ["llama.rope.scaling.finetuned"]
    assert source.account.names("unread", "gguf") == ["made.by"]
    assert any("made.by" in note for note in source.account.notes())


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("stercoder2.rope.freq_base", "nearly starcoder2.rope.freq_base"),
        ("starcoder2/rope.freq_base", "nearly starcoder2.rope.freq_base"),
        ("qwen2.rope.freq_base", "nearly starcoder2.rope.freq_base"),
        ("starcoder2.rope.freq_bare", "unknown to this version"),
        ("tokunizer.ggml.add_bos_token", "nearly tokenizer.ggml.add_bos_token"),
        ("tokenizer.ggml.add_bas_token", "nearly tokenizer.ggml.add_bos_token"),
    ],
)
def test_a_damaged_name_is_no_other_key(key: str, said: str, tmp_path: Path) -> None:
    path = write_family(tmp_path / "m.gguf", "starcoder2", family_model("starcoder2"), settings={key: 5.0})
    with pytest.raises(InputError, match=said):
        load_source(path, outline=True)


def test_recommended_sampling_and_suppressed_tokens_are_carried(tmp_path: Path) -> None:
    settings = {
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 7,
        "general.sampling.mirostat": 1,
        "tokenizer.ggml.suppress_tokens": [3, 900],
        "tokenizer.ggml.eot_token_id": 9,
    }
    model = family_model("starcoder2")
    source = load_source(write_family(tmp_path / "m.gguf", "starcoder2", model, settings=settings))
    carried: Any = source.module.generation_config
    assert (carried.do_sample, carried.temperature, carried.top_k) == (True, 0.5, 7)
    assert carried.suppress_tokens == [3]
    assert source.model.eos == (9,)
    assert source.account.names("unread", "generation") == ["general.sampling.mirostat"]


def test_ids_that_the_file_does_not_name_are_none(tmp_path: Path) -> None:
    model = _outline(tmp_path, "llama").model
    assert (model.bos, model.eos, model.pad) == (None, (), None)
