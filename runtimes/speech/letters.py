"""Labels of frames to words: repeated labels are one, the blank is none, and a mark stands between words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.audio_settings import AudioSettings


@dataclass(frozen=True, kw_only=True)
class Run:
    """A label and the frames that have it, from ``start`` to before ``end``."""

    label: int
    start: int
    end: int


def runs_of(logits: npt.NDArray[np.float32], blank: int | None) -> list[Run]:
    """The likeliest label of each frame, float32 [frames, labels], with repetitions together and blanks left out."""
    labels = logits.argmax(axis=1)
    changes = np.flatnonzero(np.diff(labels)) + 1
    bounds = [0, *changes.tolist(), len(labels)]
    runs = [Run(label=int(labels[start]), start=start, end=end) for start, end in pairwise(bounds)]
    return [run for run in runs if run.label != blank]


def words_of(
    runs: Sequence[Run], settings: AudioSettings, decode: Callable[[Sequence[int]], str]
) -> list[tuple[str, int, int]]:
    """(word, first frame, frame behind its last) of each word.

    Args:
        decode: the text of labels, where the settings have no letters; all of them are then one word.
    """
    if not settings.labels:
        text = decode([run.label for run in runs]).strip()
        return [(text, runs[0].start, runs[-1].end)] if text else []
    words: list[tuple[str, int, int]] = []
    letters: list[Run] = []

    def close() -> None:
        if letters:
            text = "".join(settings.labels[run.label] for run in letters)
            words.append((text, letters[0].start, letters[-1].end))
            letters.clear()

    for run in runs:
        if run.label >= len(settings.labels) or settings.labels[run.label] == settings.space:
            close()
        else:
            letters.append(run)
    close()
    return words
