"""Prompts with recordings: which tokens they have, and what these read.

It knows the artifact's settings for recordings, its texts and the graphs that hear, and runs nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import RECORDINGS, Artifact
from jisu.exporter.contract.audio_settings import read_audio_settings
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_prompt import ImagePrompt, RecordingBackend
from jisu.exporter.contract.recording_settings import read_recording_settings
from jisu.runtimes.shown.marked_prompts import RECORDING_WORDS, MarkedPrompts, PromptTexts, listed
from jisu.runtimes.speech.cuts import CUTS, FRAMES, recording_inputs
from jisu.runtimes.speech.recordings import Samples, read_recording

_PAIR = 2  # samples and their rate


class RecordingReader:
    """Reads the recordings of prompts for one artifact.

    Args:
        backend: has the graphs that hear.
        text: tokenizer and chat template.

    Raises:
        InputError: the artifact does not say how it hears.
    """

    def __init__(self, artifact: Artifact, backend: RecordingBackend, text: PromptTexts) -> None:
        self.backend = backend
        self.audio = read_audio_settings(artifact.folder)
        self.settings = read_recording_settings(artifact.folder / RECORDINGS)
        if self.settings.preparation not in CUTS or self.settings.frames not in FRAMES:
            raise InputError(
                f"{artifact.folder} has recordings cut in a way that this version does not know",
                received=f"{self.settings.preparation}, {self.settings.frames}",
                allowed=f"{', '.join(CUTS)}; {', '.join(FRAMES)}",
                fix="Update jisu, or export the model again.",
            )
        self._marked = MarkedPrompts(text, RECORDING_WORDS, mark=self.settings.mark, token=self.settings.audio_token)

    def prompt(self, text: str, recordings: Sequence[Any], *, chat: bool | None) -> ImagePrompt:
        """A prompt with recordings: its mark for each is in the text, or comes before it in their order.

        Raises:
            InputError: a recording that cannot be read, or another number of recordings than the text has marks.
        """
        several = listed_recordings(recordings)
        return self.expanded(self._marked.ids(text, len(several), chat=chat), several)

    def expanded(self, ids: Sequence[int], recordings: Sequence[Any]) -> ImagePrompt:
        """A prompt of token ids in which each mark stands for one of the recordings, in their order."""
        self._marked.check_count(ids, len(recordings))
        if self.settings.most is not None and len(recordings) > self.settings.most:
            raise InputError(
                "The model takes fewer recordings in one prompt",
                received=f"{len(recordings)} recordings",
                allowed=f"at most {self.settings.most}",
                fix="Ask about each of them.",
            )
        pieces = []
        for number, recording in enumerate(recordings):
            rows = self.features(recording, name=self._marked.name_of(number, len(recordings)))
            marks = self.settings.marks
            text = marks["before"] + marks["token"] * len(rows) + marks["after"]
            pieces.append((self._marked.tokens(text, len(rows)), rows))
        return self._marked.expanded(ids, pieces)

    def samples(self, recording: Any, *, name: str = "The recording") -> Samples:
        """A recording as the model hears it, float32 [samples].

        Args:
            recording: the path of a file, samples at the model's rate, or samples and their rate in Hz.
        """
        rate = None
        if isinstance(recording, tuple) and len(recording) == _PAIR and isinstance(recording[1], (int, np.integer)):
            recording, rate = recording
        made = read_recording(recording, sampling_rate=rate, model_rate=self.audio.sampling_rate)
        longest = self.settings.longest
        if longest is not None and len(made) > longest:
            raise InputError(
                f"{name} is longer than the model hears",
                received=f"{len(made) / self.audio.sampling_rate:.1f} s",
                allowed=f"at most {longest / self.audio.sampling_rate:g} s",
                fix="Cut it into parts, and ask about each.",
            )
        return made

    def inputs(self, samples: Samples) -> dict[str, npt.NDArray[Any]]:
        """What the graph that hears reads of samples, float32 [samples]."""
        return recording_inputs(samples, self.audio, self.settings, self.backend.recording_features)

    def rows(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Rows of features of samples, float32 [rows, features]; none of too short a recording."""
        inputs = self.inputs(samples)
        if not self.settings.separate:
            return self.backend.read_recording(inputs)
        windows = range(len(inputs[self.audio.input_name]))
        each = [{name: array[one : one + 1] for name, array in inputs.items()} for one in windows]
        return np.concatenate([self.backend.read_recording(one) for one in each])

    def features(self, recording: Any, *, name: str = "The recording") -> npt.NDArray[np.float32]:
        """Rows of features of a recording, float32 [rows, features]; raises InputError where nothing is heard."""
        samples = self.samples(recording, name=name)
        rows = self.rows(samples)
        if not len(rows):
            raise InputError(
                f"{name} is too short for the model to hear anything",
                received=f"{len(samples)} samples at {self.audio.sampling_rate} Hz",
                allowed="a recording that becomes at least one token",
                fix="Give a longer one.",
            )
        return rows

    def check_without(self, ids: Sequence[int]) -> None:
        """Raise InputError for a prompt that has a mark of a recording and none to read."""
        self._marked.check_without(ids)


def listed_recordings(some: Any) -> Sequence[Any]:
    """Several recordings, or one, as several; samples with their rate are one."""
    if isinstance(some, tuple) and len(some) == _PAIR and isinstance(some[1], (int, np.integer)):
        return [some]
    return listed(some)
