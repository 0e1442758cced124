"""What contestants are given in each trial: token ids of held-out text, or the files of recordings and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jisu.benchmarks.compare.inputs import Input
from jisu.benchmarks.compare.shown_sets import mark_of
from jisu.benchmarks.compare.workloads import Workload, prompts_of
from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT, SPEECH, Artifact


def feeder(model: Artifact | None, inputs: Sequence[Input], folder: Path) -> Callable[[Workload, int], Any]:
    """What makes the prompts: passages of the text that no calibration has seen, or random ids; or the recordings.

    Args:
        folder: for what is made of several inputs.
    """
    if model is not None and model.manifest.model_kind == SPEECH:
        return _of_recordings(inputs, folder)
    passages = _of_passages(model)
    if model is None or model.manifest.model_kind not in (IMAGE_TEXT, AUDIO_TEXT):
        return passages
    mark = _mark(model)

    def feed(workload: Workload, trial: int) -> tuple[list[int], list[str]]:
        files = [inputs[(trial + number) % len(inputs)].file for number in range(workload.shown)]
        return [mark] * len(files) + passages(workload, trial)[0], files

    return feed


def _mark(model: Artifact) -> int:
    """The token that stands for an image or a recording in a prompt."""
    from jisu.runtimes.generation.text import open_codec

    codec = open_codec(model.folder)
    assert codec is not None, "a model that is shown something has a tokenizer: its settings name a token's text"
    return codec.encode(mark_of(model), special_tokens=False)[-1]


def _of_passages(model: Artifact | None) -> Callable[[Workload, int], Any]:
    from jisu.exporter.gate.domains import held_out_prose
    from jisu.runtimes.generation.text import open_codec

    codec = open_codec(model.folder) if model is not None else None
    vocab_size = model.manifest.model.vocab_size if model is not None else 1
    text = held_out_prose()

    def encode(passage: str) -> list[int]:
        assert codec is not None
        return codec.encode(passage, special_tokens=False)

    def feed(workload: Workload, trial: int) -> list[list[int]]:
        return prompts_of(
            workload, trial=trial, vocab_size=vocab_size, encode=encode if codec is not None else None, text=text
        )

    return feed


def _of_recordings(inputs: Sequence[Input], folder: Path) -> Callable[[Workload, int], Any]:
    files = [one.file for one in inputs]
    joined = folder / "joined.npy"
    np.save(joined, np.concatenate([np.load(file) for file in files]))

    def feed(workload: Workload, trial: int) -> list[str]:
        if workload.hears == "joined":
            return [str(joined)]
        return files[:1] if trial < 0 else files  # one of them warms up

    return feed
