from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from jisu.benchmarks.compare.feeding import feeder
from jisu.benchmarks.compare.inputs import check_inputs, write_inputs
from jisu.benchmarks.compare.workloads import WORKLOADS
from jisu.exporter.contract.artifact import SPEECH, read_artifact
from jisu.exporter.contract.errors import InputError


def write_wave(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16000)
        stream.writeframes(np.zeros(int(16000 * seconds), "<i2").tobytes())
    return path


def test_recordings_are_the_gates_or_the_users(frames_artifact, tmp_path):
    model = read_artifact(frames_artifact.folder)
    made = write_inputs((), model, tmp_path)
    assert [one.name for one in made][:2] == ["voice", "high-voice"]
    assert all(np.load(one.file).dtype == np.float32 for one in made)
    files = [write_wave(tmp_path / f"{seconds}.wav", seconds) for seconds in (0.5, 1.0)]
    own = write_inputs(files, model, tmp_path)
    assert [(one.name, len(np.load(one.file))) for one in own] == [("0.5.wav", 8000), ("1.0.wav", 16000)]


def test_recordings_are_fed_one_by_one_and_joined_and_one_warms_up(frames_artifact, tmp_path):
    model = read_artifact(frames_artifact.folder)
    files = [write_wave(tmp_path / f"{seconds}.wav", seconds) for seconds in (0.5, 1.0)]
    inputs = write_inputs(files, model, tmp_path)
    feed = feeder(model, inputs, tmp_path)
    each, joined = WORKLOADS[SPEECH].values()
    assert feed(each, 0) == [one.file for one in inputs]
    assert feed(each, -1) == [inputs[0].file]
    (file,) = feed(joined, 0)
    assert len(np.load(file)) == 24000


def test_files_for_models_of_texts_and_files_that_are_no_sound_are_refused(tiny_classifier, frames_artifact, tmp_path):
    with pytest.raises(InputError, match="--inputs is for models that hear or read images.*text-classification"):
        check_inputs([Path("a.wav")], read_artifact(tiny_classifier.folder))
    (tmp_path / "no.wav").write_text("no sound")
    with pytest.raises(InputError, match=r"no\.wav"):
        write_inputs([tmp_path / "no.wav"], read_artifact(frames_artifact.folder), tmp_path)


def test_models_of_texts_are_given_nothing(tiny_classifier, tmp_path):
    check_inputs((), read_artifact(tiny_classifier.folder))
    assert write_inputs((), read_artifact(tiny_classifier.folder), tmp_path) == ()
