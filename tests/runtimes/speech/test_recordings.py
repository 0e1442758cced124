from __future__ import annotations

import contextlib
import os
import sys
import threading
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.runtimes.speech import recordings
from jisu.runtimes.speech.recordings import read_recording

RATE = 16000
TONE = np.asarray(0.5 * np.sin(np.arange(1600) * 0.3), np.float32)


def write_wave(path: Path, samples: Any, *, width: int = 2, channels: int = 1, rate: int = RATE) -> Path:
    scaled = np.asarray(samples, np.float64) * ((1 << (8 * width - 1)) - 1)
    if width == 1:
        content = np.round(scaled + 128).astype("u1").tobytes()
    elif width == 3:
        content = np.round(scaled).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        content = np.round(scaled).astype(f"<i{width}").tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)
    return path


def read(source: Any, rate: int | None = None) -> Any:
    return read_recording(source, sampling_rate=rate, model_rate=RATE)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_plain_samples_of_every_width(tmp_path: Path, width: int) -> None:
    samples = read(write_wave(tmp_path / "a.wav", TONE, width=width))
    assert samples.dtype == np.float32 and np.allclose(samples, TONE, atol=2.5 / (1 << (8 * width - 1)))


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([TONE, -0.5 * TONE], axis=1)
    assert np.allclose(read(write_wave(tmp_path / "a.wav", both, channels=2)), 0.25 * TONE, atol=1e-4)
    assert np.allclose(read(both), 0.25 * TONE, atol=1e-7)


def test_integers_are_scaled() -> None:
    assert np.allclose(read((TONE * 32767).astype(np.int16)), TONE, atol=1e-4)


def test_another_rate_is_resampled() -> None:
    pytest.importorskip("soxr")
    times = np.arange(44100) / 44100
    samples = read(np.asarray(0.5 * np.sin(2 * np.pi * 440 * times), np.float32), 44100)
    truth = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / RATE)
    assert len(samples) == RATE and np.abs(samples - truth)[200:-200].max() < 1e-3


def test_another_rate_without_the_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(MissingDependencyError, match=r"8000 Hz where the model hears 16000 Hz.*audio"):
        read(TONE, 8000)


def test_floating_point_files_go_to_the_library(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for name in ("a.wav", "a.flac", "a.ogg"):
        soundfile.write(tmp_path / name, TONE, RATE, subtype="FLOAT" if name == "a.wav" else None)
        assert len(read(tmp_path / name)) == len(TONE)
    assert np.allclose(read(tmp_path / "a.wav"), TONE, atol=1e-7)


@pytest.mark.parametrize("content", [b"RIFF\0\0\0\0WAVEno wave", b"# a text\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 99])
def test_what_is_no_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("soundfile")
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.wav is not a recording that can be read"):
        read(path)


def test_without_the_library_other_formats_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    (tmp_path / "a.mp3").write_bytes(b"ID3" + b"\0" * 50)
    with pytest.raises(MissingDependencyError, match="no WAV file of plain samples"):
        read(tmp_path / "a.mp3")


def test_nothing_to_hear_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    for source, message in (
        (tmp_path / "a.wav", "a file of 0 bytes"),
        (write_wave(tmp_path / "b.wav", []), "no samples"),
        (np.zeros(0, np.float32), "no samples"),
        ([], "no samples"),
        (tmp_path / "none.wav", "cannot be read"),
        ("a\0b.wav", "cannot be read"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            read(source)


@pytest.mark.parametrize(
    "source", [object(), np.zeros((2, 3, 4)), np.zeros((2, 400), np.float32), np.array(["a"]), [[0.0], [0.0, 1.0]], 5.0]
)
def test_what_holds_no_samples_is_refused(source: Any) -> None:
    with pytest.raises(InputError, match="This is not a recording"):
        read(source)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [np.nan, np.inf, 30000.0, 1e300])
def test_numbers_that_are_no_samples_are_refused(wrong: float) -> None:
    samples = TONE.astype(np.float64)
    samples[3] = wrong
    with pytest.raises(InputError, match="does not hold samples of sound"):
        read(samples)


@pytest.mark.parametrize("rate", [0, -1, 10**7, "16k", True, 16000.5])
def test_what_is_no_rate_is_refused(rate: Any) -> None:
    with pytest.raises(InputError, match="not a sampling rate"):
        read(TONE, rate)


def test_a_file_brings_its_own_rate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which states its own"):
        read(write_wave(tmp_path / "a.wav", TONE), 8000)


def test_days_of_sound_are_refused_by_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "LONGEST_HOURS", 0.05 / 3600)
    with pytest.raises(InputError, match=r"too long to be read at once.*Cut it into parts"):
        read(write_wave(tmp_path / "a.wav", TONE))
    with pytest.raises(InputError, match="too long"):
        read(TONE)


def test_a_header_that_was_written_into_a_pipe_says_more_than_there_is(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", TONE)
    content = bytearray(path.read_bytes())
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert np.allclose(read(path), TONE, atol=1e-4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_pipe_is_read_once(tmp_path: Path, subtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", TONE, RATE, subtype=subtype)
    content = (tmp_path / "a.wav").read_bytes()
    assert np.allclose(read(piped(tmp_path / "pipe", content)), TONE, atol=1e-4)
    with pytest.raises(InputError, match=r"not a recording that can be read\. Received: (?!.*BytesIO)"):
        read(piped(tmp_path / "text", b"no recording, and longer than a header"))
    monkeypatch.setattr(recordings, "_MOST_PIPED", 1000)
    with pytest.raises(InputError, match=r"a pipe with too much in it.*Write it into a file first"):
        read(piped(tmp_path / "long", content))


def piped(path: Path, content: bytes) -> Path:
    os.mkfifo(path)
    threading.Thread(target=_write, args=(path, content), daemon=True).start()
    return path


def _write(path: Path, content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), path.open("wb") as pipe:
        pipe.write(content)
