from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.audio import AudioSource, observed_settings, read_extractor


def test_a_window_is_seen_by_recordings_of_one_shape(speech_source: Path) -> None:
    settings = observed_settings(read_extractor(speech_source), "input_features", writes="tokens")
    assert (settings.dims, settings.window, settings.hop, settings.sampling_rate) == ((16, 200), 32000, 160, 16000)


def test_an_open_length_is_seen_by_recordings_of_two_shapes(frames_source: Path) -> None:
    settings = observed_settings(read_extractor(frames_source), "input_values", writes="frames")
    assert (settings.dims, settings.window, settings.hop) == ((None,), None, 1)


def test_frames_first_are_seen_too() -> None:
    from transformers import Speech2TextFeatureExtractor

    settings = observed_settings(Speech2TextFeatureExtractor(), "input_features", writes="tokens")
    assert (settings.dims, settings.window, settings.hop) == ((None, 80), None, 160)


def test_a_short_recording_is_filled_up_and_a_long_one_is_whole(speech_source: Path) -> None:
    extractor = read_extractor(speech_source)
    audio = AudioSource(extractor=extractor, settings=observed_settings(extractor, "input_features", writes="tokens"))
    assert audio.features(np.zeros(10, np.float32)).shape == (1, 16, 200)
    assert audio.features(np.zeros(48000, np.float32)).shape == (1, 16, 300)


def test_what_the_model_does_not_read_is_refused(speech_source: Path) -> None:
    with pytest.raises(InputError, match="where the model reads pixel_values"):
        observed_settings(read_extractor(speech_source), "pixel_values", writes="tokens")


def test_a_folder_without_an_extractor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no preprocessor_config\.json"):
        read_extractor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"feature_extractor_type": "Nobody"}))
    with pytest.raises(InputError, match="does not describe a feature extractor"):
        read_extractor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"auto_map": {"AutoFeatureExtractor": "a.B"}}))
    with pytest.raises(InputError, match="code of its own|auto_map|run code"):
        read_extractor(tmp_path)
