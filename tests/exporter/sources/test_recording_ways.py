"""Ways of cutting recordings, found by what a processor does; what no way gives is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.audio import AudioSource, observed_settings
from jisu.exporter.sources.feature_ways import features_of
from jisu.exporter.sources.recording_ways import find_way, same_arrays
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
