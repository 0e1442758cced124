"""Which models read recordings beside texts, and what their configurations have to say of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.audio_text import audio_text_class, audio_token_of
from jisu.exporter.sources.folder import _note_on_sound


def config(**changes: Any) -> Any:
    return SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=10), **changes)


def test_classes_that_read_recordings_and_texts_are_chosen() -> None:
    import transformers

    unlisted = transformers.AudioFlamingo3Config(architectures=["AudioFlamingo3ForConditionalGeneration"])
    assert audio_text_class(unlisted) is transformers.AudioFlamingo3ForConditionalGeneration
    listed = transformers.Qwen2AudioConfig()
    assert audio_text_class(listed) is transformers.Qwen2AudioForConditionalGeneration
    for other in (
        transformers.WhisperConfig(architectures=["WhisperForConditionalGeneration"]),
        transformers.LlavaConfig(architectures=["LlavaForConditionalGeneration"]),
        transformers.LlamaConfig(architectures=["Qwen2AudioForConditionalGeneration"]),
        transformers.Qwen2AudioConfig(architectures=["NoClassOfTransformers"]),
    ):
        assert audio_text_class(other) is None


@pytest.mark.parametrize(
    "changes", [{}, {"audio_token_id": 10}, {"audio_token_id": -1}, {"audio_token_id": "3"}, {"audio_token_id": True}]
)
def test_a_configuration_has_to_name_a_token_with_an_embedding(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="does not say which token stands for sound"):
        audio_token_of(config(**changes), Path("checkpoint"))


@pytest.mark.parametrize("name", ["audio_token_id", "audio_token_index"])
def test_the_token_is_named_in_one_of_two_ways(name: str) -> None:
    assert audio_token_of(config(**{name: 3}), Path("checkpoint")) == 3


def test_of_a_model_that_also_hears_it_is_said_what_is_exported() -> None:
    import transformers

    both = transformers.Gemma3nConfig(architectures=["Gemma3nForConditionalGeneration"])
    (note,) = _note_on_sound(both, object())
    assert "reads images" in note and "not exported" in note
    assert _note_on_sound(transformers.LlavaConfig(), object()) == ()
    assert _note_on_sound(both, None) == ()
