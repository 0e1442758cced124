"""Recordings as a model hears them: read from files or given as arrays, one channel, at the model's sampling rate."""

from __future__ import annotations

import io
import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.exporter.contract.naming import shown
from jisu.exporter.contract.placeholders import refuse_placeholder

Samples = npt.NDArray[np.float32]
# Of one recording, in hours: its samples are in memory, 230 MB an hour.
LONGEST_HOURS = 6
# Numbers that samples cannot be, whatever is said of their scale.
_LOUDEST = 64.0
_RATES = (1000, 768_000)  # Hz
_MOST_PIPED = 1 << 30  # bytes; a pipe is held in memory
_INTEGERS = {1: "u1", 2: "<i2", 4: "<i4"}


def read_recording(source: Any, *, sampling_rate: int | None, model_rate: int) -> Samples:
    """Samples of one recording: float32 [samples], ``model_rate`` of them a second, channels averaged.

    Args:
        source: path of a file, or an array of samples, [samples] or [samples, channels]: floating-point numbers within
            -1 and 1, or 16-bit integers.
        sampling_rate: of an array, in Hz; that of a file is in the file. None says that an array has the model's.

    Raises:
        InputError: no such file, one that is no audio, empty, longer than `LONGEST_HOURS`, or an array of another kind.
        MissingDependencyError: a file or rate that needs the extra ``audio``.
    """
    if isinstance(source, (str, os.PathLike)):
        if sampling_rate is not None:
            raise InputError(
                "A sampling rate was given for a file, which states its own",
                received=sampling_rate,
                allowed="a sampling rate for an array of samples",
                fix="Leave it out.",
            )
        samples, rate = _read_file(Path(source), model_rate)
        return _prepared(samples, rate, model_rate, name=str(source))
    array = _array(source)
    return _prepared(
        array, model_rate if sampling_rate is None else _rate(sampling_rate), model_rate, name="The recording"
    )


def _prepared(samples: npt.NDArray[Any], rate: int, model_rate: int, *, name: str) -> Samples:
    """Checked, averaged over channels and resampled."""
    if not len(samples):
        raise InputError(
            f"{name} is empty", received="no samples", allowed="a recording with some sound", fix="Record it again."
        )
    _check_length(len(samples), rate, name)
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 32768
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        mono = np.asarray(samples if samples.ndim == 1 else samples.mean(axis=1), np.float32)
    loudest = float(np.abs(mono).max())
    if not loudest <= _LOUDEST:
        raise InputError(
            f"{name} does not hold samples of sound",
            received=f"numbers up to {loudest:g}",
            allowed="finite numbers within -1 and 1",
            fix="Divide 16-bit samples by 32768, and correct what is not finite.",
        )
    return mono if rate == model_rate else _resampled(mono, rate, model_rate)


def _resampled(samples: Samples, rate: int, model_rate: int) -> Samples:
    try:
        import soxr
    except ImportError as error:
        raise MissingDependencyError(
            "soxr", extra="audio", needed_for=f"A recording of {rate} Hz where the model hears {model_rate} Hz"
        ) from error
    resampled = np.asarray(soxr.resample(samples, rate, model_rate), np.float32)
    return resampled if len(resampled) else np.zeros(1, np.float32)


def _array(source: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(source)
    except (ValueError, TypeError) as error:
        raise _no_samples(shown(source)) from error
    fits = array.dtype.kind == "f" or array.dtype == np.int16
    if array.size == 0 and array.ndim == 1:
        return np.zeros(0, np.float32)
    if not fits or array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] > array.shape[0]):
        raise _no_samples(f"an array of {array.dtype} of shape {list(array.shape)}")
    return array


def _no_samples(received: str) -> InputError:
    return InputError(
        "This is not a recording",
        received=received,
        allowed="the path of a file, or an array [samples] or [samples, channels] of float32 or int16",
        fix="Give the samples as one array, or the file.",
    )


def _rate(value: Any) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not _RATES[0] <= value <= _RATES[1]:
        raise InputError(
            "This is not a sampling rate",
            received=shown(value),
            allowed=f"samples per second, {_RATES[0]} to {_RATES[1]}",
            fix="Give the rate that the samples were recorded at.",
        )
    return int(value)


def _check_length(samples: int, rate: int, name: str) -> None:
    hours = samples / rate / 3600
    if hours > LONGEST_HOURS:
        raise InputError(
            f"{name} is too long to be read at once",
            received=f"{hours:.1f} hours",
            allowed=f"at most {LONGEST_HOURS} hours",
            fix="Cut it into parts.",
        )


def _read_file(path: Path, model_rate: int) -> tuple[npt.NDArray[Any], int]:
    refuse_placeholder(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
            # What was read of a pipe cannot be read again, so all of it is held.
            source: Path | io.BytesIO = path if stream.seekable() else io.BytesIO(head + stream.read(_MOST_PIPED))
    except (OSError, ValueError) as error:  # a ValueError of a name that no file can have
        raise InputError(
            f"The recording {path} cannot be read",
            received=getattr(error, "strerror", None) or error,
            allowed="a file that exists and may be read",
            fix="Check the path.",
        ) from error
    if not head:
        raise InputError(
            f"{path} is empty",
            received="a file of 0 bytes",
            allowed="a recording with some sound",
            fix="Record it again.",
        )
    held = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else path.stat().st_size
    if source is not path and held >= _MOST_PIPED:
        raise InputError(
            f"{path} is a pipe with too much in it",
            received=f"{_MOST_PIPED / 1e6:.0f} MB or more",
            allowed="a file of any size, or a pipe of less",
            fix="Write it into a file first.",
        )
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        plain = _read_wave(path, source, held)
        if plain is not None:
            return plain
        if isinstance(source, io.BytesIO):
            source.seek(0)
    return _read_with_library(path, source)


def _read_wave(path: Path, source: Path | io.BytesIO, held: int) -> tuple[npt.NDArray[Any], int] | None:
    """Plain PCM; None for what the standard library does not read, such as floating-point samples.

    Args:
        held: bytes of the file. A header says more where the program that wrote it could not go back, as into a pipe.
    """
    try:
        with wave.open(str(source) if isinstance(source, Path) else source, "rb") as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            if not _RATES[0] <= rate <= _RATES[1] or not channels:
                return None
            frames = min(file.getnframes(), held // (width * channels))
            _check_length(frames, rate, str(path))
            content = file.readframes(frames)
    except (wave.Error, EOFError, OverflowError):
        return None
    content = content[: len(content) // (width * channels) * (width * channels)]
    if width == 3:
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        samples = wide.reshape(-1).view("<i4").astype(np.float32) / (1 << 31)
    elif width in _INTEGERS:
        stored = np.frombuffer(content, _INTEGERS[width]).astype(np.float32)
        samples = (stored - 128) / 128 if width == 1 else stored / (1 << (8 * width - 1))
    else:
        return None
    return samples.reshape(-1, channels), rate


def _read_with_library(path: Path, source: Path | io.BytesIO) -> tuple[npt.NDArray[Any], int]:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            "soundfile", extra="audio", needed_for=f"{path}, which is no WAV file of plain samples,"
        ) from error
    try:
        with soundfile.SoundFile(str(source) if isinstance(source, Path) else source) as file:
            rate = int(file.samplerate)
            if rate > 0:
                _check_length(len(file), rate, str(path))
            samples = file.read(dtype="float32", always_2d=True)
    except (RuntimeError, TypeError, ValueError) as error:  # the library's errors are of the first kind
        raise InputError(
            f"{path} is not a recording that can be read",
            received=getattr(error, "error_string", str(error)).strip().splitlines()[0],
            allowed="a WAV, FLAC, OGG or MP3 file",
            fix="Convert it, for example to WAV.",
        ) from error
    return samples, _rate(rate)
