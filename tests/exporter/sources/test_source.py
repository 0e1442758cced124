from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.exporter.sources import load_source
from tests.support.models import llama_config, write_tiny, write_tiny_gguf, write_tiny_llama

pytest.importorskip("torch", reason="sources are torch models")


def _saved(source: object, folder: Path) -> dict[str, str]:
    folder.mkdir()
    source.save_tokenizer(folder)  # type: ignore[attr-defined]
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_a_saved_tokenizer_is_the_same_tokenizer(kind: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    checkpoint = (
        write_tiny_llama(tmp_path / "model", layers=1)
        if kind == "folder"
        else write_tiny_gguf(tmp_path / "model.gguf", layers=1)
    )
    source = load_source(checkpoint)
    files = _saved(source, tmp_path / "saved")
    assert files.keys() == {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"}
    saved = Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    text = "<s>Hello 你好 🚀 x=1\n</s>"
    assert saved.encode(text).ids == source.tokenizer.encode(text)
    assert files["chat_template.jinja"] == source.tokenizer.chat_template
    config = json.loads(files["tokenizer_config.json"])
    assert (config["bos_token"], config["eos_token"], config["pad_token"]) == ("<s>", "</s>", "<pad>")
    assert not config.keys() & {"is_local", "local_files_only", "name_or_path", "auto_map"}


def test_saving_twice_gives_the_same_bytes_and_no_paths(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", layers=1)
    first = _saved(load_source(path), tmp_path / "first")
    assert first == _saved(load_source(path), tmp_path / "second")
    assert not any(str(tmp_path) in text for text in first.values())


def test_generation_settings_are_kept_and_foreign_ones_dropped(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model", layers=1)
    settings = {
        "eos_token_id": [5, 1],
        "temperature": 0.6,
        "do_sample": True,
        "transformers_version": "1",
        "stray": "x",
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    files = _saved(load_source(folder), tmp_path / "saved")
    assert json.loads(files["generation_config.json"]) == {
        "bos_token_id": 0,
        "eos_token_id": [5, 1],
        "pad_token_id": 2,
        "do_sample": True,
        "temperature": 0.6,
        "top_k": 50,  # what transformers draws from where nothing is said
    }


def test_without_a_tokenizer_only_the_generation_settings_are_saved(tmp_path: Path) -> None:
    source = load_source(write_tiny(tmp_path / "model", llama_config(layers=1), tokenizer=False))
    assert _saved(source, tmp_path / "saved").keys() == {"generation_config.json"}


def test_the_tokenizer_is_written_without_indentation_and_means_the_same(tmp_path):
    from transformers import AutoTokenizer

    from jisu.exporter.sources import load_source
    from tests.support.models import write_tiny_llama

    source = load_source(write_tiny_llama(tmp_path / "source"))
    written = tmp_path / "written"
    written.mkdir()
    source.save_tokenizer(written)
    text = (written / "tokenizer.json").read_text(encoding="utf-8")
    assert "\n" not in text
    again = AutoTokenizer.from_pretrained(written)
    for sample in ("The capital of France", "你好，世界", "a\n\tb 🙂"):
        assert again(sample).input_ids == source.tokenizer(sample).input_ids
