from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from tests.support.models import llama_config, random_model, tiny_tokenizer, write_tiny, write_tiny_llama

torch = pytest.importorskip("torch", reason="sources are torch models")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "model", layers=1)


def _refused(checkpoint: Path | str, *words: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_source(checkpoint, **options)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def _edit_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# What is loaded


def test_a_folder_is_loaded_as_it_was_written(tmp_path: Path) -> None:
    source = load_source(write_tiny_llama(tmp_path / "model", seed=3))
    reference = random_model(llama_config(), seed=3).state_dict()
    assert source.module.state_dict().keys() == reference.keys()
    for name, weight in source.module.state_dict().items():
        assert torch.equal(weight, reference[name]), name
    assert not source.module.training
    assert not any(parameter.requires_grad for parameter in source.module.parameters())


def test_facts_describe_the_model(folder: Path) -> None:
    source = load_source(folder)
    assert source.model.architecture == "LlamaForCausalLM"
    assert (source.model.vocab_size, source.model.max_positions, source.model.layers) == (384, 512, 1)
    assert (source.model.bos, source.model.eos, source.model.pad) == (0, (1,), 2)
    # Embedding (also the head), four attention and three feed-forward matrices, three norms.
    assert source.model.parameters == 384 * 64 + (2 * 64 * 64 + 2 * 32 * 64) + 3 * 64 * 128 + 3 * 64
    assert source.weight_bytes == 4 * source.model.parameters


def test_eos_collects_the_ids_of_all_files_in_order(folder: Path) -> None:
    _edit(folder / "generation_config.json", lambda data: data.update(eos_token_id=[7, 5]))
    assert load_source(folder).model.eos == (7, 5, 1)


def test_tied_weights_stay_one_tensor_and_untied_stay_two(tmp_path: Path) -> None:
    tied = load_source(write_tiny_llama(tmp_path / "tied", tied=True)).module
    untied = load_source(write_tiny_llama(tmp_path / "untied", tied=False)).module
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert not torch.equal(untied.lm_head.weight, untied.model.embed_tokens.weight)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_widened_exactly(folder: Path, dtype: str) -> None:
    half = getattr(torch, dtype)
    before = load_source(folder).module.state_dict()
    _edit_weights(folder, lambda weights: weights.update({name: one.to(half) for name, one in weights.items()}))
    source = load_source(folder)
    assert source.provenance["dtype"] == {"bfloat16": "BF16", "float16": "F16"}[dtype]
    for name, weight in source.module.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, before[name].to(half).float()), name


def test_shards_are_put_together(tmp_path: Path) -> None:
    whole = load_source(write_tiny_llama(tmp_path / "whole")).module.state_dict()
    random_model(llama_config()).save_pretrained(str(tmp_path / "parts"), max_shard_size="100KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    source = load_source(tmp_path / "parts")
    for name, weight in source.module.state_dict().items():
        assert torch.equal(weight, whole[name]), name
    assert source.tokenizer is None


def test_merged_experts_pass_the_check_of_names(tmp_path: Path) -> None:
    from transformers import Qwen3MoeConfig

    config = Qwen3MoeConfig(
        hidden_size=64,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_experts=4,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=384,
    )
    source = load_source(write_tiny(tmp_path / "model", config))
    reference = random_model(config).state_dict()
    for name, weight in source.module.state_dict().items():
        assert torch.equal(weight, reference[name]), name


def test_provenance_names_files_licence_and_versions(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    provenance = load_source(folder).provenance
    assert json.loads(json.dumps(provenance)) == provenance
    assert (provenance["kind"], provenance["name"], provenance["revision"]) == ("hf-folder", str(folder), None)
    assert provenance["licence"] == "apache-2.0"
    assert provenance["files"]["model.safetensors"]["size"] == (folder / "model.safetensors").stat().st_size
    assert len(provenance["files"]["config.json"]["sha256"]) == 64
    assert {"torch", "transformers"} <= provenance["versions"].keys()


def test_every_stored_tensor_is_in_the_account(folder: Path) -> None:
    _edit_weights(folder, lambda weights: weights.update({"classifier.weight": torch.zeros(2, 64)}))
    account = load_source(folder).account
    assert account.names("unread", "tensor") == ["classifier.weight"]
    assert len(account.names("used", "tensor")) == 11


@pytest.mark.parametrize("outline", [False, True])
def test_stored_biases_that_the_configuration_does_not_ask_for_are_refused(folder: Path, outline: bool) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    _edit_weights(folder, lambda weights: weights.update({name: torch.ones(64)}))
    _refused(folder, name, "attention_bias", "--ignore-weights", outline=outline)
    account = load_source(folder, ignore_weights=["*.bias"], outline=outline).account
    assert account.names("ignored") == [name]
    assert any("*.bias" in note for note in account.notes())


def test_frequencies_of_another_base_are_refused_when_they_are_read(folder: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    _edit_weights(folder, lambda weights: weights.update({name: torch.ones(8)}))
    _refused(folder, name, "rotary frequencies")


def test_a_prefix_before_every_name_is_taken_off(folder: Path) -> None:
    before = load_source(folder).module.state_dict()
    _edit_weights(folder, lambda weights: _rename(weights, lambda name: f"module.{name}"))
    source = load_source(folder)
    for name, weight in source.module.state_dict().items():
        assert torch.equal(weight, before[name]), name
    assert any("'module.'" in note for note in source.account.notes())


def _rename(weights: dict[str, Any], rename: Callable[[str], str]) -> None:
    for name in list(weights):
        weights[rename(name)] = weights.pop(name)


def test_loading_prints_nothing_and_restores_verbosity(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_source(folder)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


# What is refused


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, "is empty")


def test_a_config_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    _refused(folder, "has a config.json but no weights")


def test_weights_without_a_config_are_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "and no weights" not in _refused(folder, "has no config.json")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_safetensors_are_refused(folder: Path, kept: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    _refused(folder, "truncated", "model.safetensors")


def test_a_header_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 4) + b"oops")
    _refused(folder, "unreadable header")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_invalid_json_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).write_text('{"cut": ')
    _refused(folder, "is not valid JSON", name)


@pytest.mark.parametrize("longest", [[], [1], "x", {"a": 1}])
def test_a_longest_text_that_is_no_number_is_refused(folder: Path, longest: Any) -> None:
    _edit(folder / "tokenizer_config.json", lambda data: data.update(model_max_length=longest))
    _refused(folder, "tokenizer", "cannot be loaded")


def test_a_json_list_is_no_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")
    _refused(folder, "does not hold a JSON object")


def test_an_unknown_model_type_is_refused_with_the_nearest(folder: Path) -> None:
    _edit(folder / "config.json", lambda data: data.update(model_type="lama"))
    _refused(folder, "'lama'", "llama")


def test_an_inconsistent_config_is_refused(folder: Path) -> None:
    _edit(folder / "config.json", lambda data: data.update(hidden_size="wide"))
    _refused(folder, "is not a valid llama configuration", "'wide'")


def test_an_unknown_activation_is_refused(folder: Path) -> None:
    _edit(folder / "config.json", lambda data: data.update(hidden_act="unheard-of"))
    _refused(folder, "does not describe a model", "unheard-of")


def test_missing_weights_are_all_counted_and_five_named(folder: Path) -> None:
    names = [name for name in _stored_names(folder) if "layers" in name][:7]
    _edit_weights(folder, lambda weights: [weights.pop(name) for name in names])
    message = _refused(folder, "7 missing", "and 2 more")
    assert sum(name in message for name in names) == 5


def test_a_missing_embedding_is_not_excused_by_tying(folder: Path) -> None:
    _edit_weights(folder, lambda weights: weights.pop("model.embed_tokens.weight"))
    _refused(folder, "model.embed_tokens.weight")


def test_tying_excuses_either_of_the_two_names(folder: Path) -> None:
    expected = load_source(folder).module.model.embed_tokens.weight
    _edit_weights(folder, lambda weights: weights.update({"lm_head.weight": weights.pop("model.embed_tokens.weight")}))
    module = load_source(folder).module
    assert torch.equal(module.model.embed_tokens.weight, expected)
    assert module.lm_head.weight is module.model.embed_tokens.weight


def test_misshapen_and_missing_weights_are_reported_together(folder: Path) -> None:
    def change(weights: dict[str, Any]) -> None:
        weights["model.norm.weight"] = torch.zeros(65)
        del weights["model.layers.0.mlp.up_proj.weight"]

    _edit_weights(folder, change)
    _refused(folder, "model.norm.weight is [65] instead of [64]", "1 missing (model.layers.0.mlp.up_proj.weight)")


def test_weights_are_checked_before_they_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jisu.exporter.sources import folder as module

    monkeypatch.setattr(module, "load_weights", lambda *_: pytest.fail("weights were read"))
    _edit_weights(folder, lambda weights: weights.pop("model.norm.weight"))
    _refused(folder, "model.norm.weight")


def test_what_transformers_makes_up_is_refused_even_if_the_first_check_let_it_pass(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jisu.exporter.sources import folder_contents as module

    monkeypatch.setattr(module, "check_stored", lambda *_, **__: None)
    _edit_weights(folder, lambda weights: weights.pop("model.norm.weight"))
    _refused(folder, "1 missing (model.norm.weight)")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    random_model(llama_config()).save_pretrained(str(tmp_path / "parts"), max_shard_size="100KB")
    lost = sorted((tmp_path / "parts").glob("*.safetensors"))[0]
    lost.unlink()
    _refused(tmp_path / "parts", lost.name, "lacks 1 of")


def test_an_index_cannot_leave_its_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "../other/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    _refused(folder, "outside its folder")


def test_several_files_without_an_index_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    _refused(folder, "several weight files without an index")


@pytest.mark.parametrize("pickled", [False, True])
def test_parts_numbered_in_their_names_need_no_index(tmp_path: Path, *, pickled: bool) -> None:
    from safetensors.torch import save_file

    folder = write_tiny_llama(tmp_path / "model", layers=1)
    expected = load_source(folder).module.state_dict()
    (folder / "model.safetensors").unlink()
    names, stem = list(expected), "pytorch_model" if pickled else "model"
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        tensors = {name: expected[name] for name in part if name != "lm_head.weight"}
        if pickled:
            torch.save(tensors, folder / f"{stem}-0000{number}-of-00002.bin")
        else:
            save_file(tensors, folder / f"{stem}-0000{number}-of-00002.safetensors", metadata={"format": "pt"})
    source = load_source(folder, allow_pickle=pickled)
    for name, weight in source.module.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    next(folder.glob("*-00001-of-*")).unlink()
    _refused(folder, "lacks 1 of the 2 parts", "00001-of-00002", allow_pickle=pickled)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer.model", "model.safetensors.index.json"]
)
@pytest.mark.parametrize("dangling", [False, True])
def test_what_stands_for_a_file_is_named(folder: Path, name: str, *, dangling: bool) -> None:
    (folder / name).unlink(missing_ok=True)
    if dangling:
        (folder / name).symlink_to("../../blobs/gone")
    else:
        (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 5\n")
    _refused(folder, f"{name} is a {'link to ../../blobs/gone' if dangling else 'git-lfs pointer'}")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "last.ckpt"])
def test_pickled_pointers_and_gguf_pointers_are_named(folder: Path, name: str) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 5\n"
    (folder / "model.safetensors").rename(folder / "model.gguf")
    (folder / "model.gguf").write_text(pointer)
    _refused(folder / "model.gguf", "is a git-lfs pointer")
    (folder / name).write_text(pointer)
    _refused(folder, f"{name} is a git-lfs pointer", allow_pickle=True)


def test_pickle_needs_the_flag_and_loads_the_same_weights(folder: Path) -> None:
    from safetensors.torch import load_file

    expected = load_source(folder).module.state_dict()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    _refused(folder, "pickle", "--allow-pickle")
    source = load_source(folder, allow_pickle=True)
    for name, weight in source.module.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_a_pickle_that_runs_a_program_is_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": _Program(tmp_path / "ran")}, folder / "pytorch_model.bin")
    _refused(folder, "cannot be read as weights", allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_safetensors_are_preferred_to_pickle(folder: Path, tmp_path: Path) -> None:
    torch.save({"model.norm.weight": _Program(tmp_path / "ran")}, folder / "pytorch_model.bin")
    load_source(folder, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(folder: Path, name: str) -> None:
    _edit(folder / name, lambda data: data.update(auto_map={"AutoModelForCausalLM": "code.Model"}))
    (folder / "code.py").write_text("raise SystemExit('ran')")
    _refused(folder, "needs remote code", name)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_config_cannot_choose_kernels_to_fetch(folder: Path, key: str) -> None:
    _edit(folder / "config.json", lambda data: data.update({key: "someone/kernels"}))
    config = load_source(folder).module.config
    assert "someone" not in f"{config._attn_implementation} {config._experts_implementation}"


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=50)
    BertModel(config).save_pretrained(str(tmp_path))
    _refused(tmp_path, "an encoder without pooling information", "BertModel", "--pooling")


def test_an_encoder_decoder_says_what_its_answers_begin_and_end_with(text_to_text_source: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(text_to_text_source, tmp_path / "copy")
    settings = {"forced_bos_token_id": 5, "bad_words_ids": [[2], [3, 4]], "suppress_tokens": [9]}
    _edit(folder / "generation_config.json", lambda data: data.update(settings))
    source = load_source(folder)
    assert source.model_kind == "text2text-generation"
    assert (source.model.decoder_start, source.model.forced_bos, source.model.forced_eos) == (2, 5, 1)
    assert source.model.suppressed == (2, 9)
    assert (source.model.max_positions, source.model.max_source_positions) == (340, 340)


def test_codes_of_a_method_that_is_not_read_are_refused(folder: Path) -> None:
    _edit(folder / "config.json", lambda data: data.update(quantization_config={"quant_method": "aqlm"}))
    _refused(folder, "quantized in a way that cannot be read", "aqlm", "learned codebooks")


# Tokenizers


def test_a_folder_without_a_tokenizer_has_none(tmp_path: Path) -> None:
    assert load_source(write_tiny(tmp_path / "model", llama_config(layers=1), tokenizer=False)).tokenizer is None


def test_a_tokenizer_without_a_vocabulary_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    _refused(folder, "has no vocabulary")


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    _edit(folder / "tokenizer.json", lambda data: data.update(model={"type": "none"}))
    _refused(folder, "tokenizer", "cannot be loaded")


def test_a_template_in_a_file_of_its_own_is_taken(folder: Path) -> None:
    expected = load_source(folder).tokenizer.chat_template
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": expected}))
    assert load_source(folder).tokenizer.chat_template == expected
    (folder / "chat_template.json").write_text(json.dumps({"template": expected}))
    _refused(folder, "holds no chat template")


def test_added_tokens_without_rows_are_said(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<extra_{number}>" for number in range(5)])
    tokenizer.save_pretrained(str(folder))
    largest = max(tokenizer.get_vocab().values())
    source = load_source(folder)
    assert any("no rows for tokens that were added" in note for note in source.notes) == (largest >= 384)
    assert largest >= 384
    # A prompt that cannot do without one is another matter.
    tokenizer.chat_template = "{{ messages[0].content }}<extra_4>"
    tokenizer.save_pretrained(str(folder))
    _refused(folder, "more ids than the model has rows", f"id {largest}", "ids below 384")


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    folder = write_tiny_llama(tmp_path / "model", layers=1)
    fast: Any = PreTrainedTokenizerFast
    words = Tokenizer(models.WordLevel({f"word{number}": number for number in range(400)}, unk_token="word0"))
    fast(tokenizer_object=words, unk_token="word0").save_pretrained(str(folder))
    _refused(folder, "more ids than the model has rows", "id 399", "ids below 384")


class _Program:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def _stored_names(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return list(file.keys())


def test_a_class_without_a_fast_form_does_not_hide_tokenizer_json(text_to_text_source, tmp_path):
    import shutil

    folder = shutil.copytree(text_to_text_source, tmp_path / "copy")
    expected = load_source(folder).tokenizer("The quick fox").input_ids
    _edit(folder / "tokenizer_config.json", lambda data: data.update(tokenizer_class="MarianTokenizer"))
    tokenizer = load_source(folder).tokenizer
    assert tokenizer.is_fast
    assert tokenizer("The quick fox").input_ids == expected


def test_a_damaged_key_of_the_configuration_is_refused(folder: Path) -> None:
    _edit(folder / "config.json", lambda data: data.update(max_position_embeddingz=data.pop("max_position_embeddings")))
    _refused(folder, "max_position_embeddingz", "max_position_embeddings, which is not stated", outline=True)


@pytest.mark.parametrize("named", [True, 3.5, {"a": 1}])
def test_architectures_of_another_type_name_none(folder: Path, named: object) -> None:
    _edit(folder / "config.json", lambda data: data.update(architectures=named))
    assert load_source(folder, outline=True).model.architecture == "LlamaForCausalLM"
