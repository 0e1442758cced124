"""How close each contestant's labels are to the source's: divergence of the probabilities, and agreement on the label.

Texts are classified one at a time, whole; logits go through files, as those of tokens do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.rounds import Outcome, Processes, Say, fail
from jisu.benchmarks.compare.timed_process import ContestantError, TimedProcess
from jisu.benchmarks.compare.token_quality import Floats, TokenIds, near_ties, read_logits, true_logits
from jisu.exporter.gate.intervals import mean_interval
from jisu.exporter.gate.quality import kl_divergence
from jisu.exporter.gate.texts import GateTexts


@dataclass
class _Tally:
    """One contestant's logits so far and those of the source, by the name of the set: [1, labels] of each text."""

    truths: dict[str, list[Floats]] = field(default_factory=dict)
    guesses: dict[str, list[Floats]] = field(default_factory=dict)
    reason: str | None = None


def label_sets(texts: GateTexts) -> dict[str, Sequence[TokenIds]]:
    """The gate's texts by their domain, int64 [T] each; for a model without a tokenizer random ids."""
    return {domain.name: domain.windows for domain in texts.judged.domains}


def measure_label_quality(
    reference: TimedProcess,
    outcomes: Mapping[str, Outcome],
    processes: Processes,
    sets: Mapping[str, Sequence[TokenIds]],
    *,
    journal: Journal,
    say: Say,
) -> None:
    """Fill in the quality of every contestant with a process; raises ReferenceFailedError."""
    tallies = {name: _Tally() for name in processes}
    with tempfile.TemporaryDirectory(prefix="jisu-logits-") as folder:
        truth_file, guess_file = (str(Path(folder) / name) for name in ("reference.npy", "contestant.npy"))
        for name, texts in sets.items():
            say(f"quality on {name}: {len(texts)} texts")
            for text in texts:
                truth = true_logits(reference, text, truth_file)
                for contestant in list(processes):
                    tally = tallies[contestant]
                    if tally.reason is not None:
                        continue
                    try:
                        guess, tally.reason = read_logits(processes[contestant], text, guess_file)
                        if guess is not None and guess.shape != truth.shape:
                            raise ContestantError(f"logits {guess.shape} where the source has {truth.shape}")
                    except ContestantError as error:
                        fail(outcomes[contestant], f"quality: {error}", processes, journal=journal, say=say)
                        continue
                    if guess is not None:
                        tally.truths.setdefault(name, []).append(truth)
                        tally.guesses.setdefault(name, []).append(guess)
    for name in processes:
        tally = tallies[name]
        sets_found = {key: _figures(tally.truths[key], tally.guesses[key]) for key in tally.truths}
        outcomes[name].quality = {
            "sets": sets_found,
            **_overall(sets_found),
            "greedy": None,
            "reason": tally.reason,
        }
        journal.add({"contestant": name, "quality": outcomes[name].quality})


def _figures(truths: Sequence[Floats], guesses: Sequence[Floats]) -> dict[str, Any]:
    truth, guess = np.concatenate(truths), np.concatenate(guesses)
    kl = kl_divergence(truth, guess)
    return {
        "mean_kl": float(kl.mean()),
        "p99_kl": float(np.quantile(kl, 0.99, method="inverted_cdf")),  # a measured one, as of tokens
        "top1": float((truth.argmax(axis=1) == guess.argmax(axis=1)).mean()),
        "near_ties": near_ties(truth, guess),
        "texts": len(truth),
        "judges": True,
        "intervals": {"mean_kl": list(mean_interval(kl, block=1))},
    }


def _overall(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of the worst domain, and the mean over all."""
    if not sets:
        return {}
    worst = max(sets, key=lambda name: sets[name]["mean_kl"])
    mean = {key: float(np.mean([figures[key] for figures in sets.values()])) for key in ("mean_kl", "top1")}
    texts = sum(figures["texts"] for figures in sets.values())
    return {"worst": {"domain": worst, **sets[worst]}, "average": {**mean, "domains": len(sets), "texts": texts}}
