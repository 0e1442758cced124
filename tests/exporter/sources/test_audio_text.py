"""Which models read recordings beside texts, and what their configurations have to say of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.audio_text import audio_text_class, audio_token_of, heard_separately
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


def test_windows_are_separate_where_each_gives_its_own_rows() -> None:
    windows = np.random.default_rng(0).normal(size=(3, 4, 8)).astype(np.float32)

    def apart(number: int | None) -> Any:
        return windows.reshape(-1, 8) if number is None else windows[number]

    def mixed(number: int | None) -> Any:
        return apart(number) - (windows.mean() if number is None else windows[number].mean())

    def fewer(number: int | None) -> Any:
        return apart(number)[: None if number is None else 3]

    assert heard_separately(apart, windows=3)
    assert not heard_separately(mixed, windows=3)
    assert not heard_separately(fewer, windows=3)


def test_of_a_model_that_also_hears_it_is_said_what_is_exported() -> None:
    import transformers

    both = transformers.Gemma3nConfig(architectures=["Gemma3nForConditionalGeneration"])
    (note,) = _note_on_sound(both, object())
    assert "reads images" in note and "not exported" in note
    assert _note_on_sound(transformers.LlavaConfig(), object()) == ()
    assert _note_on_sound(both, None) == ()


def test_a_tokenizer_without_a_template_gets_its_processors(audio_artifact: Any, tmp_path: Path) -> None:
    """And what it writes about two recordings is what transformers writes."""
    import shutil

    from jisu.exporter.sources import load_source
    from jisu.runtimes.chat.chat_template import ChatTemplate

    folder = tmp_path / "model"
    shutil.copytree(audio_artifact("qwen2_audio")[0], folder)
    (folder / "chat_template.jinja").unlink()
    source = load_source(folder)
    assert source.hearing is not None and source.tokenizer is not None
    own = source.hearing.processor
    assert source.tokenizer.chat_template == own.default_chat_template
    parts = [{"type": "audio"}, {"type": "audio"}, {"type": "text", "text": "What has changed?"}]
    messages: list[Any] = [{"role": "user", "content": parts}]
    rendered = ChatTemplate(source.tokenizer.chat_template, special_tokens={}).render(messages)
    assert rendered == own.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert "Audio 2: <|audio_bos|><|AUDIO|><|audio_eos|>" in rendered
