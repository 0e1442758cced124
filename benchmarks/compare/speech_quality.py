"""How close models that hear are to their source: the words they write down, and the logits of what the source wrote.

Each recording is a set of its own. Words are compared without case and punctuation; logits are those of the source's
own transcript, said to the contestant token by token, or of every frame.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jisu.benchmarks.compare.inputs import Input
from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.rounds import Outcome, Processes, Say, fail
from jisu.benchmarks.compare.timed_process import ContestantError, TimedProcess
from jisu.benchmarks.compare.token_quality import Floats, ReferenceFailedError, read_logits, true_logits
from jisu.exporter.gate.intervals import mean_interval
from jisu.exporter.gate.quality import kl_divergence

_UNSPACED = "\u3040-\u30ff\u4e00-\u9fff\u0e00-\u0e7f"  # kana, Han, Thai


@dataclass
class _Tally:
    """One contestant's figures so far, by recording."""

    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    words: int = 0
    wrong: int = 0


def measure_speech_quality(
    reference: TimedProcess,
    outcomes: Mapping[str, Outcome],
    processes: Processes,
    *,
    recordings: Sequence[Input],
    journal: Journal,
    say: Say,
) -> None:
    """Fill in the quality of every contestant with a process; raises ReferenceFailedError."""
    tallies = {name: _Tally() for name in processes}
    with tempfile.TemporaryDirectory(prefix="jisu-logits-") as folder:
        files = [str(Path(folder) / name) for name in ("reference.npy", "contestant.npy")]
        for number, recording in enumerate(recordings):
            say(f"quality on {recording.name}: recording {number + 1} of {len(recordings)}")
            truth, fed, logits = _truth(reference, recording, files[0])
            for name in list(processes):
                try:
                    said = processes[name].transcript(recording.file)
                    figures = _words(truth, said, tallies[name])
                    if logits is not None:
                        actual, _ = read_logits(processes[name], fed, files[1], recording.file)
                        if actual is None or actual.shape != logits.shape:
                            shape = None if actual is None else actual.shape
                            raise ContestantError(f"logits {shape} where the source has {logits.shape}")
                        figures |= _divergence(logits, actual, first=max(0, len(truth["prompt"]) - 1))
                except ContestantError as error:
                    fail(outcomes[name], f"quality: {error}", processes, journal=journal, say=say)
                    continue
                tallies[name].sets[recording.name] = figures
    for name in processes:
        outcomes[name].quality = _figures(tallies[name])
        journal.add({"contestant": name, "quality": outcomes[name].quality})


def words_of(text: str) -> list[str]:
    """Words without case and punctuation; of scripts that write no spaces, characters."""
    return re.findall(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+", text.lower())


def edits(truth: Sequence[Any], other: Sequence[Any]) -> int:
    """Fewest words to put in, leave out or exchange that make one the other (Levenshtein's distance)."""
    row = list(range(len(other) + 1))
    for number, word in enumerate(truth, start=1):
        last, row[0] = row[0], number
        for place, guess in enumerate(other, start=1):
            last, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, last + (word != guess))
    return row[-1]


def _truth(reference: TimedProcess, recording: Input, file: str) -> tuple[dict[str, Any], Any, Floats | None]:
    """What the source writes down, the tokens that its logits are of, and these; None for more than a window."""
    try:
        truth = reference.transcript(recording.file)
    except ContestantError as error:
        raise ReferenceFailedError(str(error)) from error
    if "unsupported" in truth:
        raise ReferenceFailedError(truth["unsupported"])
    fed = np.array([*truth["prompt"], *truth["tokens"]], np.int64)
    return truth, fed, true_logits(reference, fed, file, recording.file) if truth["whole"] else None


def _words(truth: Mapping[str, Any], said: Mapping[str, Any], tally: _Tally) -> dict[str, Any]:
    """The words of one recording, or its tokens where no tokenizer makes words of them."""
    if "unsupported" in said:
        raise ContestantError(f"no transcript: {said['unsupported']}")
    spoken: Sequence[Any] = words_of(truth["text"]) or truth["tokens"]
    heard: Sequence[Any] = words_of(said["text"]) or said["tokens"]
    wrong = edits(spoken, heard)
    tally.words += len(spoken)
    tally.wrong += wrong
    return {"words": len(spoken), "wrong_words": wrong, "judges": True}


def _divergence(truth: Floats, actual: Floats, *, first: int) -> dict[str, Any]:
    """Of the tokens behind the prompt, and of what ends them; of frames of all."""
    kl = kl_divergence(truth[first:], actual[first:])
    agreed = truth[first:].argmax(axis=1) == actual[first:].argmax(axis=1)
    low, high = mean_interval(kl, block=1)
    return {
        "mean_kl": float(kl.mean()),
        "top1": float(agreed.mean()),
        "tokens": len(kl),
        "intervals": {"mean_kl": [max(0.0, low) if np.isfinite(low) else low, high]},
    }


def _figures(tally: _Tally) -> dict[str, Any]:
    """All recordings' words together; the recording whose logits are furthest, and the mean over all."""
    sets = tally.sets
    judged = {name: figures for name, figures in sets.items() if "mean_kl" in figures}
    quality: dict[str, Any] = {"sets": sets, "greedy": None, "reason": None}
    if tally.words:
        quality["transcripts"] = {
            "same_words": max(0.0, 1 - tally.wrong / tally.words),
            "words": tally.words,
            "recordings": len(sets),
        }
    if judged:
        worst = max(judged, key=lambda name: judged[name]["mean_kl"])
        average = {key: float(np.mean([figures[key] for figures in judged.values()])) for key in ("mean_kl", "top1")}
        quality["worst"] = {"domain": worst, **judged[worst]}
        quality["average"] = {**average, "domains": len(judged)}
    return quality
