"""Finds out which way of cutting recordings does what a checkpoint's processor does, by trying each on made ones.

There is no list of processors: a way fits when its features are the processor's, for recordings of many lengths, its
mask of frames the same, and its tokens the processor's text. What no way reproduces is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.recording_settings import MASK_TYPES, RecordingSettings
from jisu.exporter.sources.audio_processor import process_recordings, text_for

if TYPE_CHECKING:
    from jisu.exporter.contract.audio_settings import AudioSettings
    from jisu.exporter.sources.audio import AudioSource

Samples = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]
Features = Callable[[Samples], npt.NDArray[np.float32]]
# How far features may be from the processor's, as a share of their spread; another way is off by more than a tenth.
CLOSE = 2e-3
# Shares of a window, or of two seconds where there is none: none a multiple of another.
_SHARES = (0.06, 0.34, 0.61, 0.83, 1.0)
_BEYOND = (1.0001, 1.57, 2.0, 2.73)
_SECONDS = 2
_LONGEST_SECONDS = 6 * 3600  # that a runtime reads
# Frames near which lengths are tried, one sample before and one behind.
_FRAMES = 37


def find_way(
    processor: Any,
    checkpoint: Path,
    *,
    audio: AudioSettings,
    features: Features,
    reads: Callable[[dict[str, Any]], dict[str, Any]],
    audio_token: int,
) -> RecordingSettings:
    """The cuts, the mask and the marks that reproduce a processor.

    Args:
        features: makes those of blocks of samples, as the artifact's graph will.
        reads: those of a processor's tensors that the model reads.

    Raises:
        InputError: no way does.
    """
    mark = getattr(processor, "audio_token", None)
    if not isinstance(mark, str) or len(processor.tokenizer.encode(mark, add_special_tokens=False)) != 1:
        raise _refusal(processor, checkpoint, f"the mark {mark!r}, which is no token", "a mark of one token")
    recordings = [made_recording(length) for length in _lengths(audio)]
    expected = [arrays_of(processor, mark, one, audio.sampling_rate, reads) for one in recordings]
    names = set(expected[0]) - {audio.input_name}
    if audio.input_name not in expected[0] or len(names) > 1:
        raise _refusal(processor, checkpoint, f"arrays {', '.join(expected[0])}", "features and a mask of their frames")
    mask = next(iter(names), None)
    mask_type = "int64" if mask is None else str(expected[0][mask].dtype)
    token = processor.tokenizer.convert_ids_to_tokens(audio_token)
    marks = None if not isinstance(token, str) else _marks_of(processor, token, recordings, audio.sampling_rate)
    if marks is None or mask_type not in MASK_TYPES:
        raise _refusal(processor, checkpoint, "a text of its own for a recording", "one run of the same token")
    drafted = RecordingSettings(
        preparation="",
        frames="",
        mask=mask,
        mask_type=mask_type,
        marks=marks,
        mark=mark,
        audio_token=audio_token,
        longest=None,
        multiple=1 if audio.window is not None else _multiple(expected, audio),
    )
    settings = _fitting(drafted, audio, recordings, expected, features)
    if settings is None:
        shapes = {name: list(array.shape) for name, array in expected[1].items()}
        received = f"features or a mask that no way of cutting gives, {shapes} of {len(recordings[1])} samples"
        raise _refusal(processor, checkpoint, received, "one window, windows one behind the other, or whole recordings")
    return replace(settings, longest=_longest(processor, settings, audio, reads))


def as_processed(audio: AudioSource, processor: Any, reads: Callable[[dict[str, Any]], dict[str, Any]]) -> AudioSource:
    """The sound as a processor asks its extractor for it: whole, where the extractor alone would fill a window.

    Raises:
        InputError: the processor fails.
    """
    from jisu.runtimes.speech.cuts import growing_axis

    settings, mark = audio.settings, getattr(processor, "audio_token", None)
    if settings.window is None or not isinstance(mark, str):
        return audio
    samples = made_recording(settings.sampling_rate // 10)
    arrays = arrays_of(processor, mark, samples, settings.sampling_rate, reads)
    frames = arrays.get(settings.input_name)
    if frames is None or frames.ndim != 1 + len(settings.dims) or len(frames) != 1:
        return audio
    axis = growing_axis(settings, frames.shape)
    if frames.shape[axis] >= settings.window // settings.hop:
        return audio
    # Silence that it puts behind short recordings and counts as their own, in frames of its mask.
    own = max((int(array.sum()) for name, array in arrays.items() if name != settings.input_name), default=0)
    dims = tuple(None if place == axis - 1 else dim for place, dim in enumerate(settings.dims))
    shortest = max(settings.shortest, own * settings.hop)
    return replace(audio, settings=replace(settings, window=None, dims=dims, shortest=shortest), fills=True)


def made_recording(length: int) -> Samples:
    """Noise that grows louder, so that no two parts of it are alike."""
    noise = np.random.default_rng(length).normal(0, 0.05, length)
    return np.asarray(noise * np.linspace(0.2, 2, length), np.float32)


def arrays_of(
    processor: Any, mark: str, samples: Samples, rate: int, reads: Callable[[dict[str, Any]], dict[str, Any]]
) -> Arrays:
    """What a processor makes of a recording for its model, besides the tokens."""
    made = process_recordings(processor, mark, [samples], rate)
    count = made["input_ids"].shape[1]
    tokens = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
    return {
        name: np.asarray(value)
        for name, value in reads(made).items()
        if name not in tokens and not (value.dim() == 2 and value.shape[1] == count and name.endswith("type_ids"))
    }


def _fitting(
    drafted: RecordingSettings,
    audio: AudioSettings,
    recordings: list[Samples],
    expected: list[Arrays],
    features: Features,
) -> RecordingSettings | None:
    """The first settings whose arrays are the processor's for every recording that they take."""
    from jisu.runtimes.speech.cuts import CUTS, FRAMES, recording_inputs

    windowed = audio.window is not None
    for preparation, frames in product(CUTS, FRAMES):
        if preparation.startswith("whole") == windowed:
            continue
        settings = replace(drafted, preparation=preparation, frames=frames)
        # What does not fit into one window the processor leaves out; a runtime refuses it.
        most = audio.window if preparation == "one-window" else None
        try:
            fits = all(
                same_arrays(recording_inputs(samples[:most], audio, settings, features), arrays, audio.input_name)
                for samples, arrays in zip(recordings, expected, strict=True)
            )
        except ValueError:  # frames that are no whole number of windows
            continue
        if fits:
            return settings
    return None


def _multiple(expected: list[Arrays], audio: AudioSettings) -> int:
    """What all numbers of frames are multiples of."""
    from jisu.runtimes.speech.cuts import growing_axis

    shapes = [one[audio.input_name].shape for one in expected]
    return gcd(*(shape[growing_axis(audio, shape)] for shape in shapes))


def same_arrays(ours: Arrays, theirs: Arrays, input_name: str) -> bool:
    """Whether features are as close as sums in another order, and everything else is the same."""
    if {name: array.shape for name, array in ours.items()} != {name: array.shape for name, array in theirs.items()}:
        return False
    for name, array in theirs.items():
        if name != input_name and not np.array_equal(ours[name], array):
            return False
    spread = max(float(theirs[input_name].std()), 1e-6)
    error = np.abs(ours[input_name].astype(np.float64) - theirs[input_name]).max()
    return bool(error <= CLOSE * spread)


def _lengths(audio: AudioSettings) -> Iterator[int]:
    whole = audio.window or _SECONDS * audio.sampling_rate
    yield from (round(share * whole) for share in (*_SHARES, *_BEYOND))
    frames = _FRAMES + (audio.shortest // audio.hop if audio.window is None else 0)
    yield from (frames * audio.hop + off for off in (-1, 0, 1, audio.hop // 2))


def _longest(
    processor: Any, settings: RecordingSettings, audio: AudioSettings, reads: Callable[[dict[str, Any]], dict[str, Any]]
) -> int | None:
    """Samples that the processor reads at most, before it leaves the rest out."""
    if settings.preparation == "one-window":
        return audio.window
    seconds = getattr(processor, "max_audio_len", None)  # transformers' name (5.23)
    if not isinstance(seconds, (int, float)) or not 0 < seconds <= _LONGEST_SECONDS:
        return None
    stated = max(int(seconds * audio.sampling_rate), audio.window or 1)
    if audio.window is None:
        return stated
    # It may count whole windows, of which that is no multiple.
    made = arrays_of(processor, settings.mark, made_recording(stated), audio.sampling_rate, reads)
    return min(stated, len(made[audio.input_name]) * audio.window)


def _marks_of(processor: Any, token: str, recordings: list[Samples], rate: int) -> dict[str, str] | None:
    """What the processor writes around a run of tokens, if it writes the same around all."""
    around = set()
    for samples in recordings[:4]:
        text = text_for(processor, samples, rate)
        before, _, rest = text.partition(token)
        inner, last, after = rest.rpartition(token)
        if token not in text or (last and inner.replace(token, "")):
            return None
        around.add((before, after if last else rest))
    if len(around) != 1:
        return None
    before, after = around.pop()
    return {"before": before, "token": token, "after": after}


def _refusal(processor: Any, checkpoint: Path, received: str, allowed: str) -> InputError:
    return InputError(
        f"The processor of {checkpoint}, {type(processor).__name__}, cannot be reproduced without transformers",
        received=received,
        allowed=allowed,
        fix="Choose a model whose recordings are prepared in one of these ways.",
    )
