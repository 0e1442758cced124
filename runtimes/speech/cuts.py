"""How a recording is cut and filled up before its features are made, and which of their frames are its own.

Numpy alone. Models read windows of one length, one or several, or as many samples as there are. Nothing here knows a
model: an artifact names its way, which the export found by trying all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.audio_settings import AudioSettings
from jisu.exporter.contract.recording_settings import RecordingSettings

Samples = npt.NDArray[np.float32]
Features = Callable[[Samples], npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class CutRecording:
    """A recording, ready for its features.

    Attributes:
        blocks: float32 [blocks, samples], silence behind what is shorter.
        lengths: samples of the recording in each window; one number for each row of features.
        joined: whether the features of the one block are cut into windows afterwards.
    """

    blocks: Samples
    lengths: tuple[int, ...]
    joined: bool = False


def one_window(samples: Samples, settings: AudioSettings) -> CutRecording:
    """One window, which a longer recording does not fit into."""
    return CutRecording(blocks=_filled(samples, settings.window or 0)[None], lengths=(len(samples),))


def each_window(samples: Samples, settings: AudioSettings) -> CutRecording:
    """Windows one behind the other, the features of each for itself."""
    windows = _windows(samples, settings)
    return CutRecording(blocks=windows, lengths=_lengths(samples, settings))


def joined_windows(samples: Samples, settings: AudioSettings) -> CutRecording:
    """Windows one behind the other, of the features of all of them."""
    blocks = _windows(samples, settings).reshape(1, -1)
    return CutRecording(blocks=blocks, lengths=_lengths(samples, settings), joined=True)


def whole(samples: Samples, settings: AudioSettings) -> CutRecording:
    """As it is, but for silence behind one that is shorter than what the model reads at least."""
    return CutRecording(blocks=_filled(samples, settings.shortest)[None], lengths=(len(samples),))


def whole_with_silence(samples: Samples, settings: AudioSettings) -> CutRecording:
    """The same, where that silence counts as the recording's own."""
    blocks = _filled(samples, settings.shortest)[None]
    return CutRecording(blocks=blocks, lengths=(blocks.shape[1],))


CUTS: dict[str, Callable[[Samples, AudioSettings], CutRecording]] = {
    "one-window": one_window,
    "each-window": each_window,
    "joined-windows": joined_windows,
    "whole": whole,
    "whole-with-silence": whole_with_silence,
}
# Frames of so many samples, by the samples from one frame to the next.
FRAMES: dict[str, Callable[[int, int], int]] = {
    "begun": lambda samples, hop: -(-samples // hop),
    "full": lambda samples, hop: samples // hop,
}


def recording_inputs(
    samples: Samples, audio: AudioSettings, settings: RecordingSettings, features: Features
) -> dict[str, npt.NDArray[Any]]:
    """What the graph that hears reads of a recording, by the names of its inputs.

    Args:
        features: makes those of blocks, float32 [blocks, samples] -> [blocks, ...].
    """
    cut = CUTS[settings.preparation](samples, audio)
    made = features(cut.blocks)
    axis = growing_axis(audio, made.shape)
    if cut.joined:
        made = np.concatenate(np.split(made, len(cut.lengths), axis=axis))
    behind = -made.shape[axis] % settings.multiple
    made = np.pad(made, [(0, behind if place == axis else 0) for place in range(made.ndim)])
    inputs: dict[str, npt.NDArray[Any]] = {audio.input_name: np.ascontiguousarray(made, np.float32)}
    if settings.mask is not None:
        counts = [FRAMES[settings.frames](length, audio.hop) for length in cut.lengths]
        frames = np.arange(made.shape[axis])[None] < np.array(counts)[:, None]
        inputs[settings.mask] = frames.astype(settings.mask_type)
    return inputs


def growing_axis(audio: AudioSettings, shape: tuple[int, ...]) -> int:
    """The axis of the frames of features [blocks, ...]: the one that grows, or that is as long as a window's frames."""
    if None in audio.dims:
        return 1 + audio.dims.index(None)
    frames = (audio.window or 0) // audio.hop
    return 1 + next((place for place, dim in enumerate(audio.dims) if dim == frames), len(shape) - 2)


def _filled(samples: Samples, length: int) -> Samples:
    missing = length - len(samples)
    return samples if missing <= 0 else np.pad(samples, (0, missing))


def _windows(samples: Samples, settings: AudioSettings) -> Samples:
    window = settings.window or 1
    count = max(1, -(-len(samples) // window))
    return _filled(samples, count * window).reshape(count, window)


def _lengths(samples: Samples, settings: AudioSettings) -> tuple[int, ...]:
    window = settings.window or 1
    starts = range(0, max(1, len(samples)), window)
    return tuple(min(window, len(samples) - start) for start in starts)
