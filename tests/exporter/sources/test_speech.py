from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.audio_text import audio_text_class
from jisu.exporter.sources.speech import speech_class
from tests.support.speech_models import ENGLISH, LETTERS, NO_TIMES, TRANSLATE, write_tiny_speech


def test_kind_and_settings_of_a_model_that_says_tokens(speech_source: Path) -> None:
    source = load_source(speech_source)
    assert source.model_kind == "automatic-speech-recognition" and source.generates and source.audio is not None
    settings = source.audio.settings
    assert settings.languages["en"] == ENGLISH and settings.tasks["translate"] == TRANSLATE
    assert settings.no_timestamps == NO_TIMES and settings.seconds_per_time == pytest.approx(0.02)
    assert source.model.max_positions == 40 and source.model.decoder_start == 400
    assert not source.account.names("unread")


def test_kind_and_letters_of_a_model_that_labels_frames(frames_source: Path) -> None:
    source = load_source(frames_source)
    assert source.audio is not None and not source.generates and source.tokenizer is None
    settings = source.audio.settings
    assert settings.labels == ("<pad>", "|", *LETTERS) and (settings.blank, settings.space) == (0, "|")


def test_old_settings_force_the_beginning(tmp_path: Path) -> None:
    folder = write_tiny_speech(tmp_path / "old", forced_decoder_ids=[[1, ENGLISH], [2, 403], [3, NO_TIMES]])
    source = load_source(folder)
    assert source.audio is not None and source.audio.settings.prefix == (ENGLISH, 403, NO_TIMES)


def test_an_outline_hears_as_well(speech_source: Path) -> None:
    source = load_source(speech_source, outline=True)
    assert source.audio is not None and source.model_kind == "automatic-speech-recognition"


def test_the_decoder_alone_is_no_model_that_hears(speech_source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "causal"
    shutil.copytree(speech_source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["WhisperForCausalLM"]}))
    with pytest.raises(InputError):
        load_source(folder)


def test_sound_among_the_tokens_of_a_text_is_another_kind() -> None:
    from transformers import VoxtralConfig, VoxtralForConditionalGeneration

    config = VoxtralConfig(architectures=["VoxtralForConditionalGeneration"])
    assert speech_class(config) is None
    assert audio_text_class(config) is VoxtralForConditionalGeneration


def test_a_folder_without_its_extractor_is_refused(speech_source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    shutil.copytree(speech_source, folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="does not say how sound is made"):
        load_source(folder)


def with_extractor(source: Path, folder: Path, changes: dict[str, int]) -> Path:
    """A copy whose feature extractor has other settings."""
    shutil.copytree(source, folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("changes", [{"chunk_length": 30, "n_samples": 480000}, {"feature_size": 80}])
def test_an_extractor_that_does_not_fit_the_model_is_refused(
    speech_source: Path, tmp_path: Path, changes: dict[str, int]
) -> None:
    folder = with_extractor(speech_source, tmp_path / "foreign", changes)
    with pytest.raises(InputError, match="do not fit each other"):
        load_source(folder)


def test_languages_that_are_no_tokens_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_speech(tmp_path / "model", lang_to_id={"<|en|>": [ENGLISH]})
    with pytest.raises(InputError, match="settings of generation .* cannot be understood"):
        load_source(folder)


@pytest.mark.parametrize("changes", [{"feature_size": 2**31}, {"chunk_length": 10**12}, {"n_fft": -1}])
def test_sizes_that_no_extractor_has_are_refused_before_anything_is_made_of_them(
    speech_source: Path, tmp_path: Path, changes: dict[str, int]
) -> None:
    folder = with_extractor(speech_source, tmp_path / "huge", changes)
    with pytest.raises(InputError, match="no feature extractor can have"):
        load_source(folder)
