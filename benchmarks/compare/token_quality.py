"""How close each contestant's predictions are to the source's: the gate's own figures, on named sets of tokens.

Logits go through files, one text at a time, so that a process holds no more than one text's. The source judges greedy
continuations, too: shown the same tokens, it would have chosen the same one at every step, or it parts there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.rounds import Outcome, Processes, Say, fail
from jisu.benchmarks.compare.timed_process import ContestantError, TimedProcess
from jisu.exporter.gate.domain_quality import domain_figures
from jisu.exporter.gate.prompts import GatePrompts
from jisu.exporter.gate.quality import Quality, QualityMeter

# Two logits that lie closer are a tie that either side may break: the noise of float32 kernels is a tenth of it.
NEAR_TIE = 2e-3
GREEDY = "greedy"
SET_TOKENS = 512  # that are scored of each domain

Floats = npt.NDArray[np.float32]
TokenIds = npt.NDArray[np.int64]

# What tokens are said about: another text, int64 [T], a recording's file, or what is shown and the text with its marks.
About = TokenIds | str | dict[str, Any] | None


class ReferenceFailedError(Exception):
    """The reference could not tell its logits, or told some that are no numbers."""


@dataclass(frozen=True, kw_only=True)
class TokenSets:
    """Texts by the name of their set, int64 [T] each, and prompts to continue greedily.

    A model that turns a text into another is judged on each text as an answer about itself, as the gate does, and on
    its answers about the prompts. ``start`` is the token that its answers begin with, None for any other model;
    ``suppressed`` are those that no answer has. A model that reads images or recordings beside texts has one of
    ``shown``, by its file, before each text; ``mark`` stands for it.
    """

    texts: Mapping[str, Sequence[TokenIds]]
    prompts: Sequence[TokenIds]
    new_tokens: int
    start: int | None = None
    suppressed: Sequence[int] = ()
    shown: Sequence[str] = ()
    mark: str = ""

    def inputs_for(self, text: TokenIds) -> tuple[TokenIds, About]:
        """What is fed to have a text's tokens predicted, and what it is about: a source, or what is shown."""
        if self.shown:
            number = int(text.sum()) % len(self.shown)
            return text, {"text": self.mark, "shown": [self.shown[number]]}
        if self.start is None:
            return text, None
        return np.concatenate([[self.start], text[1:]]), text

    def begun(self, prompt: TokenIds) -> tuple[TokenIds, TokenIds | None]:
        """What an answer to a prompt begins with, and the source that it is about."""
        return (prompt, None) if self.start is None else (np.array([self.start], np.int64), prompt)


@dataclass
class _Tally:
    """One contestant's figures so far."""

    meters: dict[str, QualityMeter] = field(default_factory=dict)
    ties: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    agreed: int = 0
    near_ties: int = 0
    first: dict[str, Any] | None = None
    reason: str | None = None


def token_sets(
    prompts: GatePrompts, *, start: int | None = None, suppressed: Sequence[int] = (), tokens: int = SET_TOKENS
) -> TokenSets:
    """The gate's domains, of each so many tokens that are scored; for a model without a tokenizer random ids."""
    texts = {domain.name: _first_windows(domain.windows, tokens) for domain in prompts.judged.domains}
    return TokenSets(
        texts=texts, prompts=prompts.greedy, new_tokens=prompts.greedy_steps, start=start, suppressed=suppressed
    )


def _first_windows(windows: Sequence[TokenIds], tokens: int) -> list[TokenIds]:
    chosen: list[TokenIds] = []
    while len(chosen) < len(windows) and sum(map(len, chosen)) < tokens:
        chosen.append(windows[len(chosen)])
    return chosen


def measure_quality(
    reference: TimedProcess,
    outcomes: Mapping[str, Outcome],
    processes: Processes,
    sets: TokenSets,
    *,
    journal: Journal,
    say: Say,
) -> None:
    """Fill in the quality of every contestant with a process; raises ReferenceFailedError."""
    tallies = {name: _Tally() for name in processes}
    with tempfile.TemporaryDirectory(prefix="jisu-logits-") as folder:
        truth_file, guess_file = (str(Path(folder) / name) for name in ("reference.npy", "contestant.npy"))
        for name, texts in sets.texts.items():
            for number, text in enumerate(texts):
                say(f"quality on {name}: text {number + 1} of {len(texts)}")
                fed, source = sets.inputs_for(text)
                truth = true_logits(reference, fed, truth_file, source)
                for contestant in list(processes):
                    tally = tallies[contestant]
                    if tally.reason is not None:
                        continue
                    try:
                        guess, tally.reason = read_logits(processes[contestant], fed, guess_file, source)
                    except ContestantError as error:
                        fail(outcomes[contestant], f"quality: {error}", processes, journal=journal, say=say)
                        continue
                    if guess is not None:
                        meter = tally.meters.setdefault(name, QualityMeter())
                        meter.add(truth[:-1], guess[:-1], text[1:])
                        tally.ties[name] = tally.ties.get(name, 0) + near_ties(truth[:-1], guess[:-1])
        for number, prompt in enumerate(sets.prompts):
            say(f"greedy answers: prompt {number + 1} of {len(sets.prompts)}")
            for contestant in list(processes):
                tally = tallies[contestant]
                try:
                    answer = processes[contestant].generate([prompt.tolist()], sets.new_tokens)
                except ContestantError as error:
                    fail(outcomes[contestant], f"greedy answer: {error}", processes, journal=journal, say=say)
                    continue
                if "unsupported" not in answer:
                    tokens = np.array(answer["tokens"][0], np.int64)
                    _judge(_choices(reference, sets, prompt, tokens, truth_file), tokens, tally, number)
    for name in processes:
        outcomes[name].quality = _figures(tallies[name])
        journal.add({"contestant": name, "quality": outcomes[name].quality})


def true_logits(reference: TimedProcess, tokens: TokenIds, file: str, source: About = None) -> Floats:
    """The reference's logits of a text, through a file; raises ReferenceFailedError."""
    try:
        reference.write_logits(tokens.tolist(), file, _as_json(source))
    except ContestantError as error:
        raise ReferenceFailedError(str(error)) from error
    logits: Floats = np.load(file)
    if not np.isfinite(logits).all():
        raise ReferenceFailedError("its logits are not all finite")
    return logits


def read_logits(
    process: TimedProcess, tokens: TokenIds, file: str, source: About = None
) -> tuple[Floats | None, str | None]:
    """A contestant's logits of a text, or why it does not tell them. Raises ContestantError for NaN."""
    answer = process.write_logits(tokens.tolist(), file, _as_json(source))
    if "unsupported" in answer:
        return None, answer["unsupported"]
    logits: Floats = np.load(file)
    bad = ~np.isfinite(logits)
    if bad.any():
        raise ContestantError(f"{int(bad.sum())} logits of {len(tokens)} tokens are not finite")
    return logits, None


def _as_json(source: About) -> Any:
    return source.tolist() if isinstance(source, np.ndarray) else source


def near_ties(truth: Floats, guess: Floats) -> int:
    """Rows in which another column is the likeliest and the source's two likeliest tokens are a near tie."""
    rows = np.arange(len(truth))
    best, other = truth.argmax(axis=1), guess.argmax(axis=1)
    return int(((best != other) & (truth[rows, best] - truth[rows, other] <= NEAR_TIE)).sum())


def _choices(reference: TimedProcess, sets: TokenSets, prompt: TokenIds, tokens: TokenIds, file: str) -> Floats:
    """The reference's logits at each step of a continuation, all in one run; float32 [T, V]."""
    begun, source = sets.begun(prompt)
    rows = true_logits(reference, np.concatenate([begun, tokens[:-1]]), file, source)[len(begun) - 1 :]
    rows[:, list(sets.suppressed)] = -np.inf
    return rows


def _judge(rows: Floats, tokens: TokenIds, tally: _Tally, number: int) -> None:
    """Count the steps at which the reference would have chosen the same token."""
    diverged = False
    for step, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
        best = int(row.argmax())
        gap = float(row[best] - row[token])
        tally.steps += 1
        tally.agreed += token == best
        tally.near_ties += token != best and gap <= NEAR_TIE
        if gap > NEAR_TIE and not diverged:
            diverged = True
            if tally.first is None or step < tally.first["step"]:
                tally.first = {"prompt": number, "step": step, "logit_gap": gap}


def _figures(tally: _Tally) -> dict[str, Any]:
    qualities: dict[str, Quality] = {name: meter.result() for name, meter in tally.meters.items()}
    judging = {domain.name for domain in domain_figures(list(qualities.items())).judging}
    sets = {
        name: {**quality.to_dict(), "near_ties": tally.ties[name], "judges": name in judging}
        for name, quality in qualities.items()
    }
    greedy = None
    if tally.steps:
        greedy = {
            "tokens": tally.steps,
            "agreement": tally.agreed / tally.steps,
            "near_ties": tally.near_ties,
            "first_divergence": tally.first,
        }
    return {"sets": sets, **overall(qualities), GREEDY: greedy, "reason": tally.reason}


def overall(qualities: Mapping[str, Quality]) -> dict[str, Any]:
    """The figures of the worst domain under ``worst``, and the mean over all that judge under ``average``."""
    if not qualities:
        return {}
    domains = domain_figures(list(qualities.items()))
    worst = domains.worst
    judging = [domain.quality for domain in domains.judging]
    return {
        "worst": {"domain": worst.name, **worst.quality.to_dict()},
        "average": {
            "mean_kl": domains.average_kl,
            "top1": float(np.mean([quality.top1 for quality in judging])),
            "perplexity_ratio": float(np.exp(np.mean([np.log(quality.perplexity_ratio) for quality in judging]))),
            "domains": len(judging),
            "tokens": domains.tokens,
        },
        "not_judged": list(domains.notes),
    }
