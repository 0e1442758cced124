"""Model families that differ in what passes have to recognize, exported and verified like any other model."""

from __future__ import annotations

import io

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.pipeline import export
from jisu.exporter.sources.config_reads import declared_keys
from tests.support.models import TINY_VOCAB, write_tiny

SETTINGS = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": TINY_VOCAB,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")

# config class, further settings, counts of passes that say what was recognized
FAMILIES = {
    "biases on query, key and value": ("Qwen2Config", {}, {"pack_qkv": 2, "fuse_rope": 4}),
    "norms on query and key": ("Qwen3Config", {"head_dim": 16}, {"fuse_rms_norm": 9, "pack_qkv": 0}),
    "alternating windows, softcaps, norms of one plus weight": (
        "Gemma2Config",
        {"head_dim": 16, "sliding_window": 8},
        {"fuse_rms_norm": 9, "lower_gqa": 2},
    ),
    "a rotation of part of the head": ("PhiConfig", {"partial_rotary_factor": 0.5}, {"fuse_rope": 4}),
    "norms without a mean, interleaved rotation": ("CohereConfig", {}, {"fuse_rms_norm": 3, "fuse_rope": 0}),
    "learned positions": ("GPT2Config", {"n_positions": 128}, {"fuse_rope": 0, "lower_gqa": 2}),
    "a window shorter than the prompt": ("MistralConfig", {"sliding_window": 8}, {"lower_gqa": 2, "pack_qkv": 2}),
    "two rotations, alternating windows": (
        "Gemma3TextConfig",
        {"head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
        {"lower_gqa": 2, "fuse_rope": 4},
    ),
    "merged projections": ("Phi3Config", {}, {"lower_gqa": 2, "fuse_rope": 4}),
    "positions from a padding mask": ("OPTConfig", {"ffn_dim": 64, "word_embed_proj_dim": 64}, {"lower_gqa": 2}),
    "parallel residual, part of the head rotated": ("GPTNeoXConfig", {"rotary_pct": 0.25}, {"fuse_rope": 4}),
    "one key head, attention called by torch's name": ("FalconConfig", {}, {"lower_gqa": 2}),
    "experts": ("MixtralConfig", {"num_local_experts": 4}, {"lower_gqa": 2}),
}
# Attention that no fused operator takes, and states without any: config class, further settings, kinds of state.
UNFUSED = {
    "biases of distance, computed in bfloat16": ("FalconConfig", {"alibi": True}, {"kv"}),
    "biases of distance, cut to the length": (
        "MptConfig",
        {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 128},
        {"kv"},
    ),
    "a sink in the softmax, experts with biases": (
        "GptOssConfig",
        {"head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 8},
        {"kv"},
    ),
    "a selective scan": ("MambaConfig", {"state_size": 8}, {"recurrent"}),
    "alternating scan and attention layers": (
        "JambaConfig",
        {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "mamba_d_state": 8, "mamba_dt_rank": 4},
        {"kv", "recurrent"},
    ),
}


def configuration(config_class, changes):
    """Of the settings those that a class reads: another one in its file would be refused."""
    known = declared_keys(config_class)
    return config_class(**{**{key: value for key, value in SETTINGS.items() if key in known}, **changes})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_exported_and_verified(family, tmp_path):
    import transformers

    name, changes, counts = FAMILIES[family]
    write_tiny(tmp_path / "source", configuration(getattr(transformers, name), changes))
    artifact = export(tmp_path / "source", tmp_path / "out")
    actual = {step["pass"]: step["count"] for step in artifact.manifest.recipe}
    assert {step: actual[step] for step in counts} == counts
    assert actual["lower_gqa"] == SETTINGS["num_hidden_layers"]


def test_attention_that_a_model_spells_out_itself_is_traced_as_it_stands(tmp_path):
    """ALiBi biases are read off the padding mask, and no fused operator takes them: slower, and verified as well."""
    from transformers import BloomConfig
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    from jisu.runtimes import load

    before = ALL_MASK_ATTENTION_FUNCTIONS["eager"]
    changes = {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": TINY_VOCAB}
    ids = {key: SETTINGS[key] for key in IDS}
    write_tiny(tmp_path / "source", BloomConfig(**changes, **ids))
    artifact = export(tmp_path / "source", tmp_path / "out")
    assert ALL_MASK_ATTENTION_FUNCTIONS["eager"] is before
    actual = {step["pass"]: step["count"] for step in artifact.manifest.recipe}
    assert actual["lower_gqa"] == 0
    with load(artifact.folder) as engine, load(artifact.folder, backend="torch") as source:
        prompts = ["a", "A longer prompt of several words."]
        ours = [result.token_ids for result in engine.generate(prompts, chat=False, max_new_tokens=8)]
        assert ours == [result.token_ids for result in source.generate(prompts, chat=False, max_new_tokens=8)]


@pytest.mark.parametrize("family", UNFUSED)
def test_a_family_without_fused_attention_is_exported_and_verified(family, tmp_path):
    import transformers

    from jisu.runtimes import load

    name, changes, kinds = UNFUSED[family]
    write_tiny(tmp_path / "source", configuration(getattr(transformers, name), changes))
    artifact = export(tmp_path / "source", tmp_path / "out")
    signature = artifact.manifest.signature
    assert {spec.kind for spec in signature.state} == kinds
    recurrent = "recurrent" in kinds
    assert signature.takes_one_token is recurrent
    assert ("rewind" in {check["name"] for check in artifact.manifest.gate["checks"]}) is not recurrent
    steps = {step["pass"]: step for step in artifact.manifest.recipe}
    assert ("token by token" in steps["select_logits"].get("note", "")) is recurrent
    assert not (recurrent and (artifact.folder / "genai_config.json").exists())
    with load(artifact.folder) as engine, load(artifact.folder, backend="torch") as source:
        prompts = ["a", "A longer prompt of several words."]
        ours = [result.token_ids for result in engine.generate(prompts, chat=False, max_new_tokens=8)]
        assert ours == [result.token_ids for result in source.generate(prompts, chat=False, max_new_tokens=8)]


def test_a_model_that_keeps_nothing_runs_the_whole_text_again_and_says_so(tmp_path):
    from transformers import OpenAIGPTConfig

    from jisu.exporter.jobs.stages import Stages
    from jisu.runtimes import load

    config = OpenAIGPTConfig(n_embd=64, n_layer=2, n_head=4, n_positions=128, vocab_size=TINY_VOCAB)
    write_tiny(tmp_path / "source", config)
    said = io.StringIO()
    artifact = export(tmp_path / "source", tmp_path / "out", stages=Stages(verbose=True, stream=said))
    assert artifact.manifest.signature.state == ()
    assert "runs the whole text before it again, which is slow for long texts" in said.getvalue()
    assert "Received: no cache" in said.getvalue()
    with load(artifact.folder) as engine, load(artifact.folder, backend="torch") as source:
        prompts = ["a", "A longer prompt of several words."]
        ours = [result.token_ids for result in engine.generate(prompts, chat=False, max_new_tokens=8)]
        assert ours == [result.token_ids for result in source.generate(prompts, chat=False, max_new_tokens=8)]


LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.5] * 4, "long_factor": [2.0, 4.0] * 4}


def test_angles_that_change_with_the_length_of_the_text_are_refused_unless_it_stays_short(tmp_path):
    from transformers import Phi3Config

    rope = {**LONG, "rope_theta": 10_000.0, "original_max_position_embeddings": 64}
    lengths = {"rope_parameters": rope, "original_max_position_embeddings": 64}
    write_tiny(tmp_path / "long", Phi3Config(**{**SETTINGS, **lengths}))
    with pytest.raises(InputError, match="depend on the length of the text.*original_max_position_embeddings"):
        export(tmp_path / "long", tmp_path / "no")
    write_tiny(tmp_path / "short", Phi3Config(**{**SETTINGS, **lengths, "max_position_embeddings": 64}))
    actual = {step["pass"]: step["count"] for step in export(tmp_path / "short", tmp_path / "out").manifest.recipe}
    assert actual["fuse_rope"] == 4


def settings_of(tmp_path, **changes):
    from transformers import LlamaConfig

    write_tiny(tmp_path / "source", LlamaConfig(**{**SETTINGS, **changes}))
    artifact = export(tmp_path / "source", tmp_path / "out")
    return artifact, {step["pass"]: step for step in artifact.manifest.recipe}


@pytest.mark.parametrize("size", [6, 20])
def test_heads_that_no_fast_operator_takes_are_exported_with_standard_ones(size, tmp_path):
    from jisu.runtimes import load

    artifact, steps = settings_of(tmp_path, head_dim=size)
    assert steps["lower_gqa"]["count"] == 0
    assert steps["lower_gqa"]["note"] == f"2 attentions kept: head size {size} is not a multiple of 8"
    with load(artifact.folder) as engine:
        prompts = [[5, 6, 7], [9] * 20, [11]]
        together = engine.generate_ids(prompts, max_new_tokens=12, ignore_eos=True)
        alone = [engine.generate_ids([ids], max_new_tokens=12, ignore_eos=True)[0] for ids in prompts]
    assert [row.token_ids for row in together] == [row.token_ids for row in alone]


def test_a_model_that_states_a_thousand_million_positions_gets_no_table_of_them(tmp_path):
    artifact, steps = settings_of(tmp_path, max_position_embeddings=10**9)
    assert steps["fuse_rope"]["count"] == 4
    assert artifact.size < 2_000_000


@pytest.mark.parametrize("positions", [8, 11])
def test_a_model_of_very_few_positions_is_lowered_too(positions, tmp_path):
    _, steps = settings_of(tmp_path, max_position_embeddings=positions)
    assert steps["lower_gqa"]["count"] == 2


@pytest.mark.parametrize("family", ["norms without a mean, interleaved rotation", "learned positions"])
def test_a_family_is_computed_in_half(family, tmp_path):
    import transformers

    name, changes, _ = FAMILIES[family]
    write_tiny(tmp_path / "source", configuration(getattr(transformers, name), changes))
    artifact = export(tmp_path / "source", tmp_path / "out", target="portable", precision="fp16")
    (types,) = (check for check in artifact.manifest.gate["checks"] if check["name"] == "float-types")
    assert types["passed"] is True
    assert {spec.dtype for spec in artifact.manifest.signature.state} == {"float16"}


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Bert", {"precision": "int8"}),
        ("DistilBert", {}),
        ("Qwen2", {}),
        ("Bert", {"precision": "int4"}),
        ("Bert", {"precision": "w8a8-dynamic"}),
        ("Bert", {"precision": "fp16", "target": "portable"}),
    ],
)
def test_a_classifier_is_exported_and_verified(family, changes, tmp_path):
    from jisu.runtimes import load
    from tests.support.models import write_tiny_classifier

    sizes = {"dim": 64, "hidden_dim": 64, "n_layers": 2, "n_heads": 4} if family == "DistilBert" else {}
    write_tiny_classifier(tmp_path / "source", family, num_hidden_layers=2, **sizes)
    artifact = export(tmp_path / "source", tmp_path / "out", **changes)
    assert artifact.manifest.model_kind == "text-classification"
    actual = {step["pass"]: step["count"] for step in artifact.manifest.recipe}
    assert actual.get("quantize_weights", 13) + actual.get("lower_integer_matmul", 0) >= 13
    with load(artifact.folder) as engine, load(artifact.folder, backend="torch") as source:
        texts = ["a", "A longer text of several words.", "b c d"]
        pairs = zip(engine.classify(texts), source.classify(texts), strict=True)
        exact = "precision" not in changes
        assert all(abs(a.probability - b.probability) < (1e-4 if exact else 0.1) for a, b in pairs)


def test_a_classifier_of_the_users_own_is_exported_with_its_labels(tmp_path):
    from torch import nn

    from jisu.runtimes import load

    class Mean(nn.Module):
        labels = ("ham", "spam")

        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(384, 32)
            self.hidden = nn.LSTM(32, 32, batch_first=True, bidirectional=True)
            self.head = nn.Linear(64, 2)

        def forward(self, input_ids):
            return self.head(self.hidden(self.table(input_ids))[0].mean(1))

    torch.manual_seed(0)
    module = Mean()
    artifact = export(module, out=tmp_path / "out", precision="int8")
    rows = [[1, 2, 3], [4] * 40, [9], [5, 6, 7]]
    with load(artifact.folder) as engine, load(artifact.folder, backend="torch", source=module) as source:
        assert engine.labels == ("ham", "spam")
        for ours, theirs in zip(engine.classify_ids(rows), source.classify_ids(rows), strict=True):
            assert abs(ours.probability - theirs.probability) < 0.02
