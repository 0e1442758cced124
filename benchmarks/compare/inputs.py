"""Recordings and images that contestants are given: the user's files, or those that the gate makes itself.

Each is a file of numpy's that every process reads, so that all are given the same samples or pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT, IMAGES, RECORDINGS, SPEECH, Artifact
from jisu.exporter.contract.errors import InputError

# Of whatever reads images, where nothing says how large they become.
_EDGE = 336
_MADE_IMAGES = 3
# Voices of the same length, so that trials do not differ by it.
_PITCHES = (110.0, 150.0, 210.0)  # Hz
_SECONDS = 5.0
_KINDS = (SPEECH, IMAGE_TEXT, AUDIO_TEXT)


@dataclass(frozen=True, kw_only=True)
class Input:
    """One of them: its name in the report, and where its array lies."""

    name: str
    file: str


def check_inputs(files: Sequence[Path], model: Artifact | None) -> None:
    """Raise InputError for files that a model of this kind does not read."""
    if not files or model is None or model.manifest.model_kind in _KINDS:
        return
    raise InputError(
        "--inputs is for models that hear or read images",
        received=f"{len(files)} files with artifacts for {model.manifest.model_kind}",
        allowed=f"it for {', '.join(_KINDS)}",
        fix="Leave --inputs out.",
    )


def write_inputs(files: Sequence[Path], model: Artifact | None, folder: Path) -> tuple[Input, ...]:
    """Read what the model's kind is given and write it as arrays; nothing for kinds that read texts.

    Raises:
        InputError: a file that is no recording, or no image, or longer than the model hears.
    """
    kind = None if model is None else model.manifest.model_kind
    made: list[tuple[str, Any]] = []
    if model is not None and kind == SPEECH:
        made = _recordings(files, model)
    elif model is not None and kind == IMAGE_TEXT:
        made = _images(files, model)
    elif model is not None and kind == AUDIO_TEXT:
        made = _recordings_in_prompts(files, model)
    inputs = []
    for number, (name, array) in enumerate(made):
        path = folder / f"{number}.npy"
        np.save(path, array)
        inputs.append(Input(name=name, file=str(path)))
    return tuple(inputs)


def _recordings(files: Sequence[Path], model: Artifact) -> list[tuple[str, Any]]:
    """Samples, float32 [samples] each, at the model's rate."""
    from jisu.exporter.contract.audio_settings import read_audio_settings
    from jisu.exporter.gate.recordings import gate_recordings
    from jisu.runtimes.speech.recordings import read_recording

    settings = read_audio_settings(model.folder)
    if files:
        rate = settings.sampling_rate
        return [(file.name, read_recording(file, sampling_rate=None, model_rate=rate)) for file in files]
    return [(one.name, one.samples) for one in gate_recordings(settings.sampling_rate, settings.window)]


def _recordings_in_prompts(files: Sequence[Path], model: Artifact) -> list[tuple[str, Any]]:
    """The same for a model that reads recordings beside texts."""
    from jisu.exporter.contract.audio_settings import read_audio_settings
    from jisu.exporter.contract.recording_settings import read_recording_settings
    from jisu.exporter.gate.recordings import voice

    rate = read_audio_settings(model.folder).sampling_rate
    longest = read_recording_settings(model.folder / RECORDINGS).longest
    if not files:
        seconds = _SECONDS if longest is None else min(_SECONDS, longest / rate)
        made = [voice(rate, seconds, seed=number, pitch=pitch) for number, pitch in enumerate(_PITCHES)]
        return [(f"voice-{number}", samples) for number, samples in enumerate(made)]
    read = _recordings(files, model)
    for name, samples in read:
        if longest is not None and len(samples) > longest:
            raise InputError(
                f"{name} is longer than the model hears",
                received=f"{len(samples) / rate:.1f} s",
                allowed=f"at most {longest / rate:g} s",
                fix="Cut it into parts.",
            )
    return read


def _images(files: Sequence[Path], model: Artifact) -> list[tuple[str, Any]]:
    """Pixels, uint8 [H, W, 3] each."""
    from jisu.exporter.contract.image_settings import read_image_settings
    from jisu.exporter.sources.image_ways import made_images
    from jisu.runtimes.images.reading import read_image

    if files:
        return [(file.name, read_image(file, name=str(file))) for file in files]
    settings = read_image_settings(model.folder / IMAGES).settings
    edges = [edge for name in ("crop_size", "size") for edge in _edges(settings.get(name))]
    images = made_images(edges[0] if edges else _EDGE, seed=2)
    return [(f"image-{number}", image) for number, image in enumerate(images[:_MADE_IMAGES])]


def _edges(size: Any) -> list[int]:
    values = size.values() if isinstance(size, dict) else size if isinstance(size, (list, tuple)) else [size]
    return [value for value in values if isinstance(value, int) and not isinstance(value, bool) and value < 4096]
