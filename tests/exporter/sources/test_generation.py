"""Generation settings of a checkpoint are carried, or named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.generation import (
    account_for_generation,
    carried_settings,
    notes_on_settings,
    read_generation_config,
)
from tests.support.models import write_tiny_llama


def carried(**settings: Any) -> dict[str, Any]:
    from transformers import GenerationConfig

    return carried_settings(GenerationConfig(**settings), rows=10)


def test_settings_keep_their_values_and_sampling_says_its_top_k() -> None:
    assert carried(repetition_penalty=1.3, use_cache=False) == {"repetition_penalty": 1.3}
    assert carried(do_sample=True, top_p=0.9) == {"do_sample": True, "top_p": 0.9, "top_k": 50}
    assert carried(do_sample=True, top_k=0) == {"do_sample": True, "top_k": 0}
    assert carried_settings(None, rows=10) == {}


def test_rules_about_tokens_that_are_not_there_are_left_out() -> None:
    assert carried(suppress_tokens=[-1, 3, 10], begin_suppress_tokens=[11]) == {"suppress_tokens": [3]}
    assert carried(bad_words_ids=[[3, 10], [4]]) == {"bad_words_ids": [[4]]}
    assert carried(sequence_bias=[[[3], 1.0], [[12], 2.0]]) == {"sequence_bias": [[[3], 1.0]]}
    assert carried(forced_bos_token_id=10, forced_eos_token_id=[2, 3]) == {"forced_eos_token_id": [2, 3]}


def test_tokens_that_are_not_there_are_said() -> None:
    from transformers import GenerationConfig

    def notes(**settings: Any) -> list[str]:
        return notes_on_settings(GenerationConfig(**settings), rows=10)

    (note,) = notes(suppress_tokens=[3, 10], forced_eos_token_id=10**30)
    assert note == "suppress_tokens and forced_eos_token_id name tokens beyond the model's 10, which are left out."
    assert notes(suppress_tokens=[9], forced_bos_token_id=-1, forced_eos_token_id=[2, 3]) == []
    assert notes_on_settings(None, rows=10) == []


def test_every_entry_is_accounted_for(tmp_path: Path) -> None:
    stored = {"temperature": 0.6, "eos_token_id": 1, "transformers_version": "4", "guidance_scale": 1.5, "top_k": None}
    more = {"num_return_sequences": 1, "num_beams": 4, "do_sample": True, "chat_format": "chatml"}
    (tmp_path / "generation_config.json").write_text(json.dumps({**stored, **more}))
    account = account_for_generation(Account(), tmp_path)
    assert account.names("used") == ["temperature", "eos_token_id", "num_beams", "do_sample"]
    assert account.names("harmless") == ["transformers_version", "num_return_sequences"]
    assert account.names("unread") == ["guidance_scale", "chat_format", "do_sample with num_beams"]
    assert "guidance_scale, chat_format" in account.notes()[0]
    assert account_for_generation(Account(), tmp_path / "nothing") == Account()


def test_a_source_carries_and_names_them(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model", layers=1)
    (folder / "generation_config.json").write_text('{"repetition_penalty": 1.2, "guidance_scale": 2.0}')
    source = load_source(folder)
    assert source.generation_settings()["repetition_penalty"] == 1.2
    assert source.account.names("unread", "generation") == ["guidance_scale"]


def test_settings_in_an_old_configuration_count_where_there_is_no_file(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model", layers=1)
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "no_repeat_ngram_size": 3, "num_beams": 2}))
    source = load_source(folder)
    assert {"no_repeat_ngram_size", "num_beams"} <= set(source.account.names("used", "generation"))
    settings = source.generation_settings()
    assert (settings["no_repeat_ngram_size"], settings["num_beams"]) == (3, 2)


@pytest.mark.parametrize(
    "settings", [{"do_sample": True, "temperature": -1.0}, {"repetition_penalty": "high"}], ids=str
)
def test_settings_that_cannot_be_followed_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = write_tiny_llama(tmp_path / "model", layers=1)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"generation"):
        load_source(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"forced_eos_token_id": "x"},
        {"suppress_tokens": 3},
        {"suppress_tokens": ["x"]},
        {"begin_suppress_tokens": [[1]]},
        {"bad_words_ids": [3]},
        {"sequence_bias": [7]},
    ],
)
def test_ids_that_are_no_numbers_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = write_tiny_llama(tmp_path / "source", layers=1)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="generation"):
        load_source(folder)


def test_a_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("[]")
    with pytest.raises(InputError, match="does not hold a JSON object"):
        read_generation_config(tmp_path)
    assert read_generation_config(tmp_path / "nothing") is None


def test_whoever_exports_is_told_of_tokens_that_are_not_there(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "suppress_tokens": [100_000]}))
    assert any(note.startswith("suppress_tokens name tokens beyond") for note in load_source(folder).notes)
