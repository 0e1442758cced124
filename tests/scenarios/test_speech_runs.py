"""Recordings through exported models that hear, and through the models of transformers that they were made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import jisu
from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.recordings import voice
from tests.support.speech_models import LETTERS

RATE = 16000


@pytest.fixture(scope="module")
def engine(speech_artifact: Any) -> Any:
    with jisu.load(speech_artifact.folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def original(speech_source: Path) -> Any:
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(str(speech_source)).eval()
    return model, WhisperFeatureExtractor.from_pretrained(str(speech_source))


@pytest.mark.parametrize("seconds", [0.05, 1.3, 2.0, 5.3, 13.7])
@pytest.mark.parametrize("beams", [1, 3])
def test_segments_are_those_of_transformers(engine: Any, original: Any, seconds: float, beams: int) -> None:
    model, extractor = original
    samples = voice(RATE, seconds, seed=round(seconds * 10), pitch=120.0)
    long = len(samples) > 2 * RATE
    whole = {"truncation": False, "padding": "longest"} if long else {}
    features = extractor(samples, sampling_rate=RATE, return_tensors="pt", **whole).input_features
    for timestamps in (False, True):
        for language in (None, "de"):
            with torch.no_grad():
                said = model.generate(
                    features,
                    task="transcribe",
                    language=language,
                    num_beams=beams,
                    return_timestamps=timestamps or long,
                    return_segments=True,
                )["segments"][0]
            transcript = engine.transcribe(samples, language=language, timestamps=timestamps, num_beams=beams)
            theirs = [(tuple(one["tokens"].tolist()), float(one["start"]), float(one["end"])) for one in said]
            ours = [(one.token_ids, one.start, one.end) for one in transcript.segments]
            assert [one[0] for one in ours] == [one[0] for one in theirs if one[0]]
            if timestamps or long:
                assert np.allclose([one[1:] for one in ours], [one[1:] for one in theirs if one[0]], atol=1e-3)
            else:  # theirs ends with the window, whose silence nobody recorded
                assert all(end <= max(start, seconds) + 1e-3 for _, start, end in ours)
            assert all(0 <= one[1] <= one[2] for one in ours)


def test_language_is_found_out_and_asked_for(engine: Any, original: Any) -> None:
    model, extractor = original
    samples = voice(RATE, 1.7, seed=3, pitch=200.0)
    features = extractor(samples, sampling_rate=RATE, return_tensors="pt").input_features
    token = int(model.detect_language(features)[0])
    transcript = engine.transcribe(samples)
    assert transcript.language == {401: "en", 402: "de"}[token]
    assert transcript.token_ids == engine.transcribe(samples, language=transcript.language).token_ids
    other = {"en": "de", "de": "en"}[transcript.language]
    with torch.no_grad():
        theirs = model.generate(features, task="translate", language=other)[0].tolist()
    translated = engine.transcribe(samples, language=other, translate=True)
    assert translated.language == other
    assert list(translated.token_ids) == theirs[: len(translated.token_ids)]


def test_text_is_that_of_the_tokens(engine: Any) -> None:
    samples = voice(RATE, 5.3, seed=5, pitch=120.0)
    transcript = engine.transcribe(samples, timestamps=True)
    words = [token for token in transcript.token_ids if token < 400]
    assert words and "".join(transcript.text.split()) == "".join(engine.detokenize(words).split())
    assert transcript.seconds == pytest.approx(5.3, abs=1e-3) and transcript.compute_seconds > 0
    assert json.loads(transcript.to_json())["segments"][0]["token_ids"] == list(transcript.segments[0].token_ids)


def test_what_is_no_wish_of_this_model_is_refused(engine: Any, frames_artifact: Any) -> None:
    samples = np.zeros(RATE, np.float32)
    with pytest.raises(InputError, match=r"does not know that language.*xx.*de, en"):
        engine.transcribe(samples, language="xx")
    with pytest.raises(InputError, match="does not generate text"):
        engine.generate("hello")
    with pytest.raises(InputError, match="does not generate text"):
        engine.score("hello")
    with jisu.load(frames_artifact.folder) as other:
        with pytest.raises(InputError, match="does not translate"):
            other.transcribe(samples, translate=True)
        with pytest.raises(InputError, match="does not know that language"):
            other.transcribe(samples, language="en")


def test_a_model_of_texts_does_not_hear(tiny_artifact: Any) -> None:
    with jisu.load(tiny_artifact.folder) as other, pytest.raises(InputError, match="is not a model that hears"):
        other.transcribe(np.zeros(RATE, np.float32))


def test_other_backends_are_refused_in_one_sentence(speech_artifact: Any) -> None:
    with pytest.raises(InputError, match=r"The backend torch runs no models that hear.*ort-cpu"):
        jisu.load(speech_artifact.folder, "torch")


@pytest.mark.parametrize("seconds", [0.3, 2.0, 9.1])
def test_letters_are_those_of_transformers(frames_artifact: Any, frames_source: Path, seconds: float) -> None:
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    model = Wav2Vec2ForCTC.from_pretrained(str(frames_source)).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(str(frames_source))
    tokenizer = Wav2Vec2CTCTokenizer(str(frames_source / "vocab.json"), pad_token="<pad>", word_delimiter_token="|")
    samples = voice(RATE, seconds, seed=2, pitch=130.0)
    with torch.no_grad():
        logits = model(extractor(samples, sampling_rate=RATE, return_tensors="pt").input_values).logits
    theirs = tokenizer.decode(logits.argmax(-1)[0])
    with jisu.load(frames_artifact.folder) as opened:
        transcript = opened.transcribe(samples, timestamps=True)
    assert transcript.text == " ".join(theirs.split()) and set(transcript.text) <= set(LETTERS) | {" "}
    assert [one.text for one in transcript.segments] == transcript.text.split()
    starts = [one.start for one in transcript.segments]
    assert starts == sorted(starts) and all(0 <= one.start < one.end <= seconds for one in transcript.segments)


def test_frames_of_a_long_recording_are_labelled_in_pieces(frames_artifact: Any) -> None:
    from difflib import SequenceMatcher

    samples = voice(RATE, 75.0, seed=8, pitch=115.0)
    with jisu.load(frames_artifact.folder) as opened:
        in_pieces = opened.transcribe(samples)
        whole = opened.transcriber._backend.frame_logits([opened.transcriber._backend.features(samples)])[0]
    best = whole.argmax(1)
    labels = best[np.flatnonzero(np.diff(best, prepend=-1))]
    letters = "".join((LETTERS[label - 2] if label > 1 else " ") for label in labels if label)
    ratio = SequenceMatcher(None, " ".join(letters.split()), in_pieces.text, autojunk=False).ratio()
    assert ratio > 0.9  # samples are normalized piece by piece, and attention ends at a piece's neighbours


@pytest.mark.parametrize("precision", ["int8"])
def test_reduced_precision_keeps_the_answers(speech_source: Path, tmp_path: Path, precision: str) -> None:
    artifact = jisu.export(str(speech_source), out=tmp_path / precision, precision=precision)
    assert artifact.manifest.gate["accepted"] is True
    samples = voice(RATE, 1.5, seed=4, pitch=120.0)
    with jisu.load(artifact.folder) as opened:
        assert opened.transcribe(samples, language="en").segments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "tensorrt"}, "cannot be exported for tensorrt yet"),
        ({"precision": "int4"}, "cannot be exported in int4"),
    ],
)
def test_what_is_not_supported_yet_is_one_sentence(
    speech_source: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        jisu.export(str(speech_source), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_window_says_what_transformers_does(tmp_path: Path) -> None:
    from transformers import Speech2TextFeatureExtractor, Speech2TextForConditionalGeneration

    from tests.support.speech_models import write_windowless_speech

    checkpoint = write_windowless_speech(tmp_path / "source")
    artifact = jisu.export(str(checkpoint), out=tmp_path / "artifact")
    model = Speech2TextForConditionalGeneration.from_pretrained(str(checkpoint)).eval()
    extractor = Speech2TextFeatureExtractor.from_pretrained(str(checkpoint))
    with jisu.load(artifact.folder) as opened:
        for seconds in (0.4, 2.7):
            samples = voice(RATE, seconds, seed=3, pitch=120.0)
            features = extractor(samples, sampling_rate=RATE, return_tensors="pt").input_features
            with torch.no_grad():
                said = model.generate(features, num_beams=1, do_sample=False, max_length=40)[0].tolist()
            segments = opened.transcribe(samples).segments
            ours = [token for segment in segments for token in segment.token_ids]
            assert ours == [token for token in said[1:] if token not in (1, 2)]
            assert ours
