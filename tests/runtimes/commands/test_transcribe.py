from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jisu
from jisu.exporter.gate.recordings import voice
from jisu.runtimes.commands.transcribe import _clock
from tests.runtimes.speech.test_recordings import write_wave


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_wave(tmp_path / "talk.wav", voice(16000, 3.1, seed=5, pitch=120.0))


def transcribe(capsys: pytest.CaptureFixture[str], artifact: Any, *words: Any, code: int = 0) -> str:
    assert jisu.main(["transcribe", str(artifact.folder), *map(str, words)]) == code
    actual = capsys.readouterr()
    return actual.out if code == 0 else actual.err


def test_text_times_and_json(speech_artifact: Any, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(transcribe(capsys, speech_artifact, recording, "--json", "--language", "de"))
    assert record["language"] == "de" and record["recording"] == str(recording) and record["seconds"] == 3.1
    assert transcribe(capsys, speech_artifact, recording, "--language", "de") == record["text"] + "\n"
    lines = transcribe(capsys, speech_artifact, recording, "--language", "de", "--timestamps").splitlines()
    assert lines[0].startswith(f"[{_clock(record['segments'][0]['start'])} -> ")
    assert transcribe(capsys, speech_artifact, recording, "--beams", "2", "--translate")


def test_what_has_no_times_ends_with_the_recording(
    speech_artifact: Any, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = write_wave(tmp_path / "short.wav", voice(16000, 1.1, seed=5, pitch=120.0))  # of a window of 2 s
    segment = json.loads(transcribe(capsys, speech_artifact, short, "--json"))["segments"][0]
    assert (segment["start"], segment["end"]) == (0.0, 1.1)


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="the system has no such file")
def test_a_recording_may_come_from_standard_input(
    frames_artifact: Any, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [sys.executable, "-m", "jisu", "transcribe", str(frames_artifact.folder), "-"]
    done = subprocess.run(words, input=recording.read_bytes(), capture_output=True, timeout=120)
    assert done.stdout.decode() == transcribe(capsys, frames_artifact, recording)


def test_several_recordings_are_named(
    frames_artifact: Any, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = transcribe(capsys, frames_artifact, recording)
    assert transcribe(capsys, frames_artifact, recording, recording) == 2 * f"{recording}:\n{alone}"


def test_frames_are_labelled_without_beams(
    frames_artifact: Any, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "searches no beams" in transcribe(capsys, frames_artifact, recording, "--beams", "3", code=2)
    assert transcribe(capsys, frames_artifact, recording, "--beams", "1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.wav"], "cannot be read"),
        (["{talk}", "--language", "xx"], "does not know that language"),
        (["{talk}", "--beams", "0"], "num_beams"),
    ],
)
def test_bad_input_is_one_sentence(
    speech_artifact: Any, recording: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    error = transcribe(capsys, speech_artifact, *(word.format(talk=recording) for word in words), code=2)
    assert message in error and "Traceback" not in error


def test_an_empty_recording_is_refused(
    speech_artifact: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = write_wave(tmp_path / "empty.wav", np.zeros(0))
    assert "is empty" in transcribe(capsys, speech_artifact, empty, code=2)


def test_clock_counts_hours() -> None:
    assert [_clock(seconds) for seconds in (0, 61.239, 3725.5)] == ["00:00.00", "01:01.24", "1:02:05.50"]
