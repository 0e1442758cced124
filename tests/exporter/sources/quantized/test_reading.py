"""Whole folders: what is loaded from codes is the model with the dequantized weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from tests.support.models import llama_config, write_tiny
from tests.support.quantized_folders import GPTQ, float8, gptq, rewrite


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = llama_config(layers=1, tied=False)
    return write_tiny(tmp_path_factory.mktemp("plain") / "model", config, tokenizer=False)


def check(folder, expected):
    """The source that is loaded has these weights, and answers with them."""
    source = load_source(folder)
    own = dict(source.module.named_parameters())
    for name, weight in expected.items():
        assert torch.equal(own[name], weight.float()), name
    with torch.no_grad():
        assert torch.isfinite(source.module(torch.arange(5, 15)[None]).logits).all()
    return source


@pytest.mark.parametrize(
    "declaration",
    [
        {"settings": {"quant_method": "fp8", "activation_scheme": "static"}},
        {"hf_quant_config": {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}},
        {},
    ],
    ids=["config.json", "hf_quant_config.json", "nowhere"],
)
def test_scales_are_applied_wherever_the_quantization_is_declared(plain, tmp_path, declaration):
    source = check(*rewrite(plain, tmp_path / "model", float8, **declaration))
    assert source.provenance["quantization"]["formats"] == {"float8 e4m3, a scale for each tensor": 7}
    assert source.provenance["dtype"] == "F32, F8_E4M3"
    record = source.account.to_record()
    assert record["counts"]["tensor"]["harmless"] >= 7
    named = {entry["why"]: entry["names"] for entry in record["named"]}
    assert "model.layers.0.mlp.up_proj.weight_scale" in named["scales of a weight"]
    assert "model.layers.0.mlp.up_proj.input_scale" in named["scales of activations, which stay floats"]
    assert not source.account.notes()


def test_packed_integers_and_biases_of_zero(plain, tmp_path):
    source = check(*rewrite(plain, tmp_path / "model", gptq, settings=GPTQ))
    assert source.provenance["quantization"]["method"] == "gptq"
    assert source.provenance["quantization"]["bits"] == {"4": 7}
    assert not getattr(source.module.config, "quantization_config", None)
    assert "biases of zero" in {entry["why"] for entry in source.account.to_record()["named"]}


def test_a_quantized_output_projection_beside_a_plain_embedding(plain, tmp_path):
    check(*rewrite(plain, tmp_path / "model", gptq, settings=GPTQ, only=("proj.weight", "lm_head.weight")))


def test_layers_that_store_their_weights_transposed(tmp_path):
    from transformers import GPT2Config

    from tests.support.models import TINY_VOCAB

    config = GPT2Config(
        n_embd=32, n_head=2, n_layer=1, n_positions=64, vocab_size=TINY_VOCAB, bos_token_id=0, eos_token_id=1
    )
    plain = write_tiny(tmp_path / "plain", config, tokenizer=False)

    def change(stem, weight):
        parts, expected = gptq(stem, weight.T.contiguous())
        del parts[f"{stem}.bias"]
        return parts, expected

    folder, expected = rewrite(
        plain, tmp_path / "model", change, settings=GPTQ, only=("c_attn.weight", "c_proj.weight", "c_fc.weight")
    )
    check(folder, {f"transformer.{name.removeprefix('transformer.')}": weight for name, weight in expected.items()})


def test_experts_that_transformers_merges_are_dequantized_first(tmp_path):
    from transformers import MixtralConfig

    from tests.support.models import TINY_VOCAB

    config = MixtralConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=3,
        num_experts_per_tok=2,
        vocab_size=TINY_VOCAB,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    plain = write_tiny(tmp_path / "plain", config, tokenizer=False)
    experts = ("w1.weight", "w2.weight", "w3.weight")
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    folder, expected = rewrite(plain, tmp_path / "model", float8, settings=settings, only=experts)
    assert sum(name.endswith(experts) for name in expected) == 9
    own = dict(check(folder, {}).module.named_parameters())
    merged = next(weight for name, weight in own.items() if name.endswith("experts.down_proj"))
    stored = [weight for name, weight in sorted(expected.items()) if name.endswith("w2.weight")]
    assert torch.equal(merged, torch.stack(stored))


def test_the_input_factors_of_awq_are_part_of_the_weight(plain, tmp_path):
    def change(stem, weight):
        parts, values = float8(stem, weight)
        factors = torch.linspace(0.5, 2, weight.shape[1])
        return {**parts, f"{stem}.pre_quant_scale": factors}, values * factors

    check(*rewrite(plain, tmp_path / "model", change, settings={"quant_method": "modelopt", "quant_algo": "FP8"}))


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "compressed-tensors"])
def test_a_merged_model_that_says_it_is_quantized_is_plain(plain, tmp_path, method):
    def keep(stem, weight):
        return {f"{stem}.weight": weight.bfloat16()}, weight.bfloat16()

    folder, expected = rewrite(plain, tmp_path / "model", keep, settings={"quant_method": method})
    source = check(folder, expected)
    assert any("plain bfloat16" in note and method in note for note in source.account.notes())


def test_a_plain_model_has_no_notes_on_quantization(plain):
    source = load_source(plain)
    assert not source.account.notes()
    assert "quantization" not in source.provenance


def lost(stem, weight):
    parts, values = float8(stem, weight)
    return {f"{stem}.weight": parts[f"{stem}.weight"]}, values


def lost_once(stem, weight):
    return lost(stem, weight) if stem.endswith("down_proj") else float8(stem, weight)


def unrounded(stem, weight):
    return {f"{stem}.weight": weight, f"{stem}.weight_scale": torch.ones(1)}, weight


def without_codes(stem, weight):
    parts, values = gptq(stem, weight)
    del parts[f"{stem}.qweight"]
    return parts, values


def bare_codes(stem, weight):
    return {f"{stem}.weight": (weight * 100).to(torch.int8)}, weight


def not_finite(stem, weight):
    parts, values = float8(stem, weight)
    return {**parts, f"{stem}.weight_scale": torch.tensor([float("nan")])}, values


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lost, "codes without the scales"),
        (lost_once, r"8-bit floats without scales. Received: model.layers.0.mlp.down_proj.weight\."),
        (unrounded, r"belong to no codes.*weight_scale"),
        (without_codes, r"belong to no codes.*(qzeros|scales)"),
        (bare_codes, "of integers"),
        (not_finite, "NaN or infinite"),
    ],
)
def test_what_is_damaged_is_refused_by_name(plain, tmp_path, change, words):
    folder, _ = rewrite(plain, tmp_path / "model", change)
    with pytest.raises(InputError, match=words):
        load_source(folder)


def test_codes_without_scales_are_refused_where_a_quantization_is_declared(plain, tmp_path):
    def change(stem, weight):
        return {f"{stem}.weight": weight.to(torch.float8_e4m3fn)}, weight

    folder, _ = rewrite(plain, tmp_path / "model", change, settings={"quant_method": "fp8"})
    with pytest.raises(InputError, match="8-bit floats without scales"):
        load_source(folder)


def test_an_outline_knows_the_shapes_of_what_codes_stand_for(plain, tmp_path):
    folder, _ = rewrite(plain, tmp_path / "model", gptq, settings=GPTQ)
    source = load_source(folder, outline=True)
    assert source.weight_bytes == load_source(plain, outline=True).weight_bytes
