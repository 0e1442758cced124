"""Damages copies of a checkpoint and of an artifact, kills exports, and counts how each attempt ended."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.robustness.attempt import Outcome, attempt
from benchmarks.robustness.mutants import mutate
from exporter.contract.artifact import TIMINGS
from exporter.contract.errors import InputError

# The second is a long one, so that more of the model is asked.
PROMPTS = ("The capital of France is", "One two three four five six seven eight nine ten. " * 6)
NEW_TOKENS = 8
# What no attempt may end in.
FAULTS = ("traceback", "hang", "crash", "other answer", "half artifact", "left behind")
_SHOWN = 3  # details of each kind


@dataclass(kw_only=True)
class Tally:
    """How many attempts on each file ended in which way, and examples of the faults."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, ending: str, detail: str = "") -> None:
        self.counts.setdefault(what, Counter())[ending] += 1
        if ending in FAULTS and len(kept := self.examples.setdefault(f"{what}: {ending}", [])) < _SHOWN:
            kept.append(detail)

    @property
    def faults(self) -> int:
        return sum(count for ends in self.counts.values() for ending, count in ends.items() if ending in FAULTS)

    def to_dict(self) -> dict[str, Any]:
        return {"counts": {what: dict(ends) for what, ends in self.counts.items()}, "examples": self.examples}


def answers_of(folder: Path) -> list[Any]:
    """What an artifact answers, tokens and text, the most likely ones; opened as users open it."""
    from runtimes import load

    with load(folder, threads=1) as engine:
        results = engine.generate(list(PROMPTS), max_new_tokens=NEW_TOKENS, temperature=0.0)
        return [[*map(int, result.token_ids), result.text] for result in results]


def read_checkpoint(path: Path) -> None:
    """Everything of an export that reads the checkpoint."""
    from exporter.sources import load_source

    load_source(path)


def files_of(path: Path) -> list[str]:
    """Names of the files to damage; "" for a checkpoint that is one file."""
    if path.is_file():
        return [""]
    return sorted(
        file.name for file in path.iterdir() if file.is_file() and file.stat().st_size and file.name != TIMINGS
    )


def damage_checkpoint(path: Path, *, mutants: int, seed: int, seconds: float, tally: Tally) -> None:
    """Read a checkpoint with one file of it damaged, ``mutants`` times in all, each file in its turn."""
    for what, damaged, how in _damaged(path, mutants=mutants, seed=seed):
        outcome = attempt(lambda damaged=damaged: read_checkpoint(damaged), seconds=seconds)  # type: ignore[misc]
        tally.add(f"checkpoint {what or path.suffix}", outcome.ending, f"{how}: {outcome.detail}")


def damage_artifact(folder: Path, *, mutants: int, seed: int, seconds: float, tally: Tally) -> None:
    """Open an artifact with one file of it damaged and compare its answer with that of the whole one."""
    whole = attempt(lambda: answers_of(folder), seconds=10 * seconds)
    if whole.ending != "done":
        raise InputError(f"{folder} cannot be used to begin with", received=whole.detail or whole.ending)
    for what, damaged, how in _damaged(folder, mutants=mutants, seed=seed):
        outcome = attempt(lambda damaged=damaged: answers_of(damaged), seconds=seconds)  # type: ignore[misc]
        tally.add(f"artifact {what}", _judged(outcome, whole), f"{how}: {outcome.detail}")


def kill_exports(source: Path, *, kills: int, seed: int, seconds: float, tally: Tally) -> None:
    """Kill exports of a checkpoint at random moments, half of them near the end, and look at what lies there."""
    import time

    from exporter import export
    from exporter.contract.artifact import read_artifact

    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="jisu-robustness-") as place:
        begun = time.monotonic()
        first = attempt(lambda: str(export(source, Path(place, "whole")).folder), seconds=seconds)
        if first.ending != "done":
            raise InputError(f"{source} cannot be exported to begin with", received=first.detail or first.ending)
        lasted = time.monotonic() - begun
        for number in range(kills):
            out = Path(place, "killed")
            moment = chance.uniform(0.85, 1.05) if number % 2 else chance.uniform(0.0, 0.85)
            outcome = attempt(
                lambda out=out: str(export(source, out).folder),  # type: ignore[misc]
                seconds=seconds,
                kill_after=moment * lasted,
            )
            detail = f"at {moment:.2f} of {lasted:.1f} s"
            if out.exists():
                try:
                    read_artifact(out, check_hashes=True)
                    tally.add("export", "killed when done" if outcome.ending == "killed" else outcome.ending, detail)
                except InputError as error:
                    tally.add("export", "half artifact", f"{detail}: {error}")
                shutil.rmtree(out)
            else:
                tally.add("export", outcome.ending, f"{detail}: {outcome.detail}")
        last = attempt(lambda: str(export(source, Path(place, "killed")).folder), seconds=seconds)
        tally.add("export after the kills", last.ending, last.detail)
        left = sorted(path.name for path in Path(place).iterdir() if path.name not in ("whole", "killed"))
        if left:
            tally.add("export after the kills", "left behind", ", ".join(left))


def _judged(outcome: Outcome, whole: Outcome) -> str:
    if outcome.ending != "done":
        return outcome.ending
    return "same answer" if outcome.result == whole.result else "other answer"


def _damaged(path: Path, *, mutants: int, seed: int) -> Iterator[tuple[str, Path, str]]:
    """(name of the damaged file, the copy it lies in, how it was damaged), each file in its turn."""
    names = files_of(path)
    with tempfile.TemporaryDirectory(prefix="jisu-robustness-") as place:
        copy = Path(place, path.name)
        if path.is_dir():
            shutil.copytree(path, copy)
        for number in range(mutants):
            name = names[number % len(names)]
            data = (path / name).read_bytes() if name else path.read_bytes()
            how, damaged = mutate(name, data, seed + number)
            target = copy / name if name else copy
            target.write_bytes(damaged)
            yield name, copy, f"{how}, seed {seed + number}"
            target.write_bytes(data)
