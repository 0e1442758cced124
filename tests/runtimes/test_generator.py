from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.runs import all_results
from jisu.runtimes.generator import Generator
from jisu.runtimes.model_text import ModelText
from tests.runtimes.tiny_text import IM_END, ScriptedBackend, byte_level_tokenizer, text_artifact

TOKENIZER = byte_level_tokenizer()
END = TOKENIZER.token_to_id(IM_END)
TURNS = [
    {"role": "user", "content": "one" * 9},
    {"role": "assistant", "content": "two" * 9},
    {"role": "user", "content": "three"},
]


def generator(folder: Path, positions: int | None = 512, **settings: object) -> Generator:
    """One that says a full stop, whatever it is asked."""
    artifact = text_artifact(folder / "artifact", eos=[END])
    if settings:
        (artifact.folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    backend = ScriptedBackend(TOKENIZER.get_vocab_size(), lambda _: TOKENIZER.token_to_id("."))
    backend.max_positions = positions
    return Generator(artifact, backend, ModelText(artifact))


def test_options_are_completed_by_the_settings_of_the_model(tmp_path: Path) -> None:
    made = generator(tmp_path, do_sample=True, top_k=7)
    assert made.completed_options(SamplingOptions()).top_k == 7
    assert made.completed_options(SamplingOptions(top_k=3)).top_k == 3


def test_a_conversation_needs_room_for_an_answer(tmp_path: Path) -> None:
    made = generator(tmp_path, positions=64)
    assert made.has_room(TURNS[2:], SamplingOptions(max_new_tokens=8))
    assert not made.has_room(TURNS, SamplingOptions(max_new_tokens=8))
    assert generator(tmp_path / "endless", positions=None).has_room(TURNS * 99, SamplingOptions())


def test_old_turns_go_only_where_they_may(tmp_path: Path) -> None:
    made = generator(tmp_path, positions=64)
    with pytest.raises(InputError, match="too long"):
        made.begin_chat(TURNS, None, {})
    kept = all_results(made.begin_chat(TURNS, None, {"drop_oldest": True, "max_new_tokens": 4}))[0]
    alone = all_results(made.begin_chat(TURNS[2:], None, {"max_new_tokens": 4}))[0]
    assert (kept.prompt_tokens, kept.text) == (alone.prompt_tokens, "....")


def test_an_id_outside_the_vocabulary_begins_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="A token id is not in the vocabulary"):
        generator(tmp_path).begin([[1, 10**6]], SamplingOptions())
