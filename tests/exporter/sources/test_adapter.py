"""Adapters are merged exactly, every tensor of them, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny, write_tiny_llama

torch = pytest.importorskip("torch", reason="sources are torch models")

Q, V, DOWN = (f"model.layers.0.{name}" for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"))
SHAPES = {Q: (64, 64), V: (32, 64), DOWN: (64, 128), "lm_head": (384, 64)}
EMBED = "model.embed_tokens"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("base") / "model", layers=1, tied=False)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tied") / "model", layers=1, tied=True)


def random(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def pair(module: str, rank: int = 4) -> dict[str, Any]:
    rows, columns = SHAPES[module]
    return {
        f"base_model.model.{module}.lora_A.weight": random(rank, columns),
        f"base_model.model.{module}.lora_B.weight": random(rows, rank),
    }


def write_adapter(folder: Path, tensors: dict[str, Any], **settings: Any) -> Path:
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "someone/base", **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def weights(checkpoint: Path, *adapters: Path) -> dict[str, Any]:
    actual: dict[str, Any] = load_source(checkpoint, adapters=adapters).module.state_dict()
    return actual


def product(tensors: dict[str, Any], module: str) -> Any:
    name = f"base_model.model.{module}.lora_"
    return tensors[f"{name}B.weight"] @ tensors[f"{name}A.weight"]


def assert_changed(before: dict[str, Any], after: dict[str, Any], expected: dict[str, Any]) -> None:
    """Exactly these weights are others now, and these are their values."""
    for name, weight in after.items():
        torch.testing.assert_close(weight, expected.get(name, before[name]), rtol=1e-6, atol=1e-6)
    assert {name for name, weight in after.items() if not torch.equal(weight, before[name])} == set(expected)


def test_two_by_two_by_hand(base: Path, tmp_path: Path) -> None:
    down, up = torch.zeros(2, 64), torch.zeros(64, 2)
    down[0, 0], down[1, 1], up[5, 0], up[6, 1] = 3.0, 5.0, 2.0, 7.0
    name = f"base_model.model.{Q}.lora_"
    adapter = write_adapter(tmp_path / "a", {f"{name}A.weight": down, f"{name}B.weight": up}, r=2, lora_alpha=1)
    change = weights(base, adapter)[f"{Q}.weight"] - weights(base)[f"{Q}.weight"]
    assert change.count_nonzero() == 2
    assert change[5, 0].item() == pytest.approx(3.0, abs=1e-6)  # 1 / 2 * 2 * 3
    assert change[6, 1].item() == pytest.approx(17.5, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({}, (2.0, 2.0)),
        ({"use_rslora": True}, (4.0, 4.0)),
        ({"alpha_pattern": {"v_proj": 2}}, (2.0, 0.5)),
        ({"alpha_pattern": {"layers.0.self_attn.v_proj": 2, "v_proj": 400}}, (2.0, 0.5)),
        ({"alpha_pattern": {"proj": 400, ".*q_proj": 4}}, (1.0, 2.0)),
    ],
    ids=str,
)
def test_scales(base: Path, tmp_path: Path, settings: dict[str, Any], scales: tuple[float, float]) -> None:
    tensors = {**pair(Q), **pair(V)}
    before, adapter = weights(base), write_adapter(tmp_path / "a", tensors, **settings)
    expected = {
        f"{name}.weight": before[f"{name}.weight"] + scale * product(tensors, name)
        for name, scale in zip((Q, V), scales, strict=True)
    }
    assert_changed(before, weights(base, adapter), expected)


def test_ranks_of_patterns_are_those_of_the_matrices(base: Path, tmp_path: Path) -> None:
    tensors = {**pair(Q), **pair(DOWN, rank=16)}
    before = weights(base)
    adapter = write_adapter(tmp_path / "a", tensors, rank_pattern={"down_proj": 16})
    expected = {
        f"{Q}.weight": before[f"{Q}.weight"] + 2.0 * product(tensors, Q),
        f"{DOWN}.weight": before[f"{DOWN}.weight"] + 0.5 * product(tensors, DOWN),
    }
    assert_changed(before, weights(base, adapter), expected)
    with pytest.raises(InputError, match=r"down_proj has \[16, 128\] and \[64, 16\] instead of \[4, 128\]"):
        load_source(base, adapters=[write_adapter(tmp_path / "b", tensors)])


def test_directions_and_magnitudes(base: Path, tmp_path: Path) -> None:
    tensors = {**pair(Q), f"base_model.model.{Q}.lora_magnitude_vector": random(64).abs()}
    before, adapter = weights(base), write_adapter(tmp_path / "a", tensors, use_dora=True)
    whole = before[f"{Q}.weight"] + 2.0 * product(tensors, Q)
    magnitude = tensors[f"base_model.model.{Q}.lora_magnitude_vector"]
    expected = torch.stack([magnitude[row] * whole[row] / whole[row].square().sum().sqrt() for row in range(64)])
    assert_changed(before, weights(base, adapter), {f"{Q}.weight": expected})
    with pytest.raises(InputError, match="q_proj has no magnitude vector"):
        load_source(base, adapters=[write_adapter(tmp_path / "b", pair(Q), use_dora=True)])


def test_several_adapters_add_up(base: Path, tmp_path: Path) -> None:
    one, other = pair(Q), pair(V)
    before = weights(base)
    first, second = write_adapter(tmp_path / "a", one), write_adapter(tmp_path / "b", {**one, **other})
    expected = {
        f"{Q}.weight": before[f"{Q}.weight"] + 4.0 * product(one, Q),
        f"{V}.weight": before[f"{V}.weight"] + 2.0 * product(other, V),
    }
    assert_changed(before, weights(base, first, second), expected)


def embedding_pair() -> dict[str, Any]:
    name = f"base_model.model.{EMBED}.lora_embedding_"
    return {f"{name}A": random(4, 384), f"{name}B": random(64, 4)}


def test_an_embedding_of_a_tied_model_changes_alone(tied: Path, tmp_path: Path) -> None:
    tensors = embedding_pair()
    down, up = tensors.values()
    source = load_source(tied, adapters=[write_adapter(tmp_path / "a", tensors)])
    before, after = weights(tied), source.module.state_dict()
    table = before[f"{EMBED}.weight"] + 2.0 * (up @ down).T
    torch.testing.assert_close(after[f"{EMBED}.weight"], table, rtol=1e-6, atol=1e-6)
    assert torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    assert any("two tied weights" in note for note in source.notes)
    both = weights(tied, write_adapter(tmp_path / "b", tensors, ensure_weight_tying=True))
    assert torch.equal(both["lm_head.weight"], both[f"{EMBED}.weight"])


def test_whole_modules_and_biases_take_the_bases_place(base: Path, tmp_path: Path) -> None:
    head, norm = random(384, 64), random(64)
    tensors = {**pair(Q), "base_model.model.lm_head.weight": head, "base_model.model.model.norm.weight": norm}
    before = weights(base)
    expected = {
        f"{Q}.weight": before[f"{Q}.weight"] + 2.0 * product(tensors, Q),
        "lm_head.weight": head,
        "model.norm.weight": norm,
    }
    assert_changed(before, weights(base, write_adapter(tmp_path / "a", tensors)), expected)


def test_a_tied_table_that_was_trained_whole_leaves_its_other_use(tied: Path, tmp_path: Path) -> None:
    tensors = {f"base_model.model.{EMBED}.weight": random(384, 64)}
    before = weights(tied)
    after = weights(tied, write_adapter(tmp_path / "a", tensors, modules_to_save=["embed_tokens"]))
    assert torch.equal(after[f"{EMBED}.weight"], next(iter(tensors.values())))
    assert torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    # Saved because the vocabulary had grown, not because it was trained apart.
    both = weights(tied, write_adapter(tmp_path / "b", tensors))
    assert torch.equal(both["lm_head.weight"], both[f"{EMBED}.weight"])


def test_new_rows_of_the_vocabulary_come_with_the_tokenizer(tied: Path, tmp_path: Path) -> None:
    from tests.support.models import tiny_tokenizer

    table = random(390, 64)
    adapter = write_adapter(tmp_path / "a", {f"base_model.model.{EMBED}.weight": table})
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(str(adapter))
    source = load_source(tied, adapters=[adapter])
    assert source.model.vocab_size == 390
    assert torch.equal(source.module.get_output_embeddings().weight, table)
    assert "<|new|>" in source.tokenizer.get_vocab()
    assert source.module(torch.tensor([[389]])).logits.shape == (1, 1, 390)


def test_a_head_without_rows_for_the_new_tokens_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", {f"base_model.model.{EMBED}.weight": random(390, 64)})
    with pytest.raises(InputError, match=r"lm_head.weight has no rows for the adapter's 390 tokens"):
        load_source(base, adapters=[adapter])


def test_matrices_of_gpt2_are_turned(tmp_path: Path) -> None:
    from transformers import GPT2Config

    config = GPT2Config(vocab_size=384, n_embd=32, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=1)
    folder = write_tiny(tmp_path / "model", config, tokenizer=False)
    name = "transformer.h.0.attn.c_attn"
    tensors = {
        f"base_model.model.{name}.lora_A.weight": random(4, 32),
        f"base_model.model.{name}.lora_B.weight": random(96, 4),
    }
    adapter = write_adapter(tmp_path / "a", tensors, fan_in_fan_out=True)
    ids = torch.arange(6)[None]
    from transformers import AutoModelForCausalLM

    theirs: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs.get_submodule(name).weight += 2.0 * product(tensors, name).T  # [in, out]
        ours = load_source(folder, adapters=[adapter]).module(ids).logits
        torch.testing.assert_close(ours, theirs(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "settings", "words"),
    [
        ({"base_model.model.model.layers.7.mlp.up_proj.lora_A.weight": (4, 64)}, {}, "layers.7.mlp.up_proj, which the"),
        ({f"base_model.model.{Q}.lora_A.weight": (4, 64)}, {}, "has lora_A, which cannot be merged"),
        ({f"base_model.model.{Q}.lora_C.weight": (4, 64)}, {}, "lora_C.weight, which is not understood"),
        ({f"{Q}.lora_A.weight": (4, 64)}, {}, "does not begin with base_model.model."),
        ({"base_model.model.model.norm.weight": (65,)}, {}, r"model.norm.weight is \[65\] instead of \[64\]"),
        ({"base_model.model.score.weight": (3, 64)}, {}, "score.weight, which the model has not"),
        ({"x": (1,)}, {"peft_type": "IA3"}, "peft_type 'IA3'"),
        ({"x": (1,)}, {"peft_type": "PROMPT_TUNING"}, "peft_type 'PROMPT_TUNING'"),
        ({"x": (1,)}, {"init_lora_weights": "pissa_niter_4"}, "which changes the base model's weights"),
        ({"x": (1,)}, {"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"x": (1,)}, {"r": "four"}, "cannot be understood"),
    ],
    ids=str,
)
def test_what_cannot_be_merged_is_named(
    base: Path, tmp_path: Path, tensors: dict[str, tuple[int, ...]], settings: dict[str, Any], words: str
) -> None:
    stored = {name: torch.ones(*shape) for name, shape in tensors.items()}
    with pytest.raises(InputError, match=words):
        load_source(base, adapters=[write_adapter(tmp_path / "a", stored, **settings)])


def test_an_adapter_of_another_width_is_refused_also_before_weights_are_read(base: Path, tmp_path: Path) -> None:
    name = f"base_model.model.{Q}.lora_"
    wide = {f"{name}A.weight": torch.ones(4, 96), f"{name}B.weight": torch.ones(96, 4)}
    adapter = write_adapter(tmp_path / "a", wide)
    for outline in (False, True):
        with pytest.raises(InputError, match=r"does not belong to this model.*\[4, 96\].*someone/base"):
            load_source(base, adapters=[adapter], outline=outline)
    load_source(base, adapters=[write_adapter(tmp_path / "b", pair(Q))], outline=True)


def test_a_folder_with_an_adapter_alone_finds_its_base_or_says_what_to_give(base: Path, tmp_path: Path) -> None:
    tensors = pair(Q)
    local = write_adapter(tmp_path / "a", tensors, base_model_name_or_path=str(base))
    source = load_source(local)
    assert torch.equal(source.module.state_dict()[f"{Q}.weight"], weights(base, local)[f"{Q}.weight"])
    assert source.provenance["name"] == str(base)
    assert source.provenance["adapters"] == [str(local)]
    assert {"a/adapter_model.safetensors", "model.safetensors"} <= set(source.provenance["files"])
    away = write_adapter(tmp_path / "b", tensors)
    with pytest.raises(InputError, match=f"holds an adapter.*jisu export someone/base --adapter {away}"):
        load_source(away)


@pytest.mark.parametrize("name", ["~nobody-has-this-name/base", "long" * 100, "nul\0", 7, [], {"a": 1}, True])
def test_a_base_that_no_path_can_name_is_refused(tmp_path: Path, name: Any) -> None:
    adapter = write_adapter(tmp_path / "a", pair(Q), base_model_name_or_path=name)
    message = "holds an adapter" if isinstance(name, str) else "base_model_name_or_path"
    with pytest.raises(InputError, match=message):
        load_source(adapter)


def test_an_adapter_beside_a_complete_model_is_said_and_not_applied(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    adapter = write_adapter(tmp_path / "a", pair(Q))
    for file in adapter.iterdir():
        shutil.copy(file, folder / file.name)
    source = load_source(folder)
    assert any("is not applied" in note for note in source.notes)
    assert torch.equal(source.module.state_dict()[f"{Q}.weight"], weights(base)[f"{Q}.weight"])
