"""Ways of cutting recordings, found by what a processor does; what no way gives is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.audio import AudioSource, observed_settings
from jisu.exporter.sources.feature_ways import features_of
from jisu.exporter.sources.recording_ways import as_processed, find_way, same_arrays
from tests.support.audio_models import FAMILIES


@pytest.fixture(scope="module")
def processor() -> Any:
    return FAMILIES["qwen2_audio"]()[1]


@pytest.fixture(scope="module")
def audio(processor: Any) -> AudioSource:
    settings = observed_settings(processor.feature_extractor, "input_features", writes="tokens")
    return AudioSource(extractor=processor.feature_extractor, settings=settings)


def way_of(processor: Any, audio: AudioSource, read: Any = lambda made: made) -> Any:
    token = processor.tokenizer.convert_tokens_to_ids(processor.audio_token)
    return find_way(
        processor,
        Path("checkpoint"),
        audio=audio.settings,
        features=features_of(audio),
        reads=read,
        audio_token=token,
    )


def test_one_window_is_way_of(processor: Any, audio: AudioSource) -> None:
    settings = way_of(processor, audio)
    assert (settings.preparation, settings.frames, settings.mask) == ("one-window", "begun", "feature_attention_mask")
    assert settings.longest == audio.settings.window


def test_features_of_another_scale_are_refused(processor: Any, audio: AudioSource) -> None:
    def louder(made: dict[str, Any]) -> dict[str, Any]:
        return {**made, "input_features": made["input_features"] * 1.1}

    with pytest.raises(InputError, match="cannot be reproduced without transformers"):
        way_of(processor, audio, louder)


def test_a_mask_of_other_frames_is_refused(processor: Any, audio: AudioSource) -> None:
    def shorter(made: dict[str, Any]) -> dict[str, Any]:
        return {**made, "feature_attention_mask": made["feature_attention_mask"].roll(1, dims=1)}

    with pytest.raises(InputError, match="cannot be reproduced without transformers"):
        way_of(processor, audio, shorter)


def test_further_arrays_are_refused(processor: Any, audio: AudioSource) -> None:
    with pytest.raises(InputError, match="features and a mask of their frames"):
        way_of(processor, audio, lambda made: {**made, "rates": made["input_features"][:, 0]})


def test_texts_of_its_own_are_refused(processor: Any, audio: AudioSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(processor), "replace_audio_token", lambda self, *_, **__: "<|AUDIO|>1<|AUDIO|>")
    with pytest.raises(InputError, match="a text of its own for a recording"):
        way_of(processor, audio)


def test_arrays_differ_by_shape_mask_and_numbers() -> None:
    features = np.random.default_rng(0).normal(size=(1, 4, 8)).astype(np.float32)
    one: dict[str, Any] = {"features": features, "mask": np.ones((1, 8), np.int64)}
    assert same_arrays(one, {**one, "features": features + np.float32(1e-4)}, "features")
    assert not same_arrays(one, {**one, "features": features + np.float32(0.1)}, "features")
    assert not same_arrays(one, {**one, "features": features[..., :-1]}, "features")
    assert not same_arrays(one, {**one, "mask": np.zeros((1, 8), np.int64)}, "features")
    assert not same_arrays(one, {"features": features}, "features")


@pytest.fixture(scope="module")
def chunked() -> Any:
    """A processor that asks for whole recordings, of an extractor that alone fills a window."""
    return FAMILIES["qwen3_asr"]()[1]


def test_a_processor_that_asks_for_whole_recordings_is_found(chunked: Any) -> None:
    extractor = chunked.feature_extractor
    alone = AudioSource(extractor=extractor, settings=observed_settings(extractor, "input_features", writes="tokens"))
    assert alone.settings.window == 480_000
    audio = as_processed(alone, chunked, lambda made: made)
    assert (audio.settings.window, audio.settings.dims, audio.settings.shortest) == (None, (16, None), 8000)
    settings = way_of(chunked, audio, lambda made: {name: made[name] for name in made if name != "num_audio_tokens"})
    assert (settings.preparation, settings.frames, settings.multiple) == ("whole-with-silence", "full", 100)


def test_a_processor_that_fills_windows_is_left_as_it_is(processor: Any, audio: AudioSource) -> None:
    assert as_processed(audio, processor, lambda made: made) is audio


def test_zeros_behind_a_recording_are_none_of_its_features(chunked: Any) -> None:
    extractor = chunked.feature_extractor
    settings = observed_settings(extractor, "input_features", writes="tokens")
    audio = AudioSource(extractor=extractor, settings=replace(settings, window=None, dims=(16, None)), fills=True)
    samples = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    assert audio.features(samples).shape == (1, 16, 125)
    assert replace(audio, fills=False).features(samples).shape == (1, 16, 200)
