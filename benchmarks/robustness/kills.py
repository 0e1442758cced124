"""Disturbs jobs at random moments, and looks at what lies there, who still runs, and whether the next run finishes it.

What disturbs is a kill, or something that happens to the place where the result comes to lie.
"""

from __future__ import annotations

import os
import random
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jisu.benchmarks.robustness.attempt import Outcome, attempt
from jisu.benchmarks.robustness.tally import Tally
from jisu.exporter.contract.errors import InputError

# Every so many-th run is not killed, and has to finish what the killed ones have begun.
FINISHED = 5
_MARK = "JISU_ROBUSTNESS"
_PATIENCE = 20.0  # seconds in which the children of a killed job end by themselves
# Half of the kills hit the last stages, where something is published.
_MOMENTS = ((0.0, 0.85), (0.85, 1.05))


@dataclass(kw_only=True)
class Kills:
    """A job that is disturbed again and again, at the same place.

    Attributes:
        name: of the trial.
        job: does it; its argument is where the result comes to lie.
        digest: of a whole result, something that JSON holds; raises InputError for half a one, None where none lies.
        place: an empty folder; the result lies within, and may have files beside.
        seconds: after which a run hangs.
        repeats: whether every whole result has to have the digest of the first one.
        disturbs: what happens to the folder of the place instead of a kill, for as long as the run lasts.
    """

    name: str
    job: Callable[[Path], Any]
    digest: Callable[[Path], Any]
    place: Path
    seconds: float
    seed: int = 0
    repeats: bool = True
    disturbs: Callable[[Path, random.Random], AbstractContextManager[None]] | None = None
    _first: Any = None
    _lasted: float = 0.0

    def run(self, number: int, tally: Tally) -> None:
        """The attempt of this number: a run that is killed, or one that has to finish."""
        if not self._lasted:
            self._measure()
        out = self.place / "out"
        finishes = number % FINISHED == FINISHED - 1
        chance = random.Random(f"{self.name} {self.seed} {number}")
        moment = None if finishes else chance.uniform(*_MOMENTS[number % 2])
        mark = uuid.uuid4().hex
        outcome = self._disturbed(out, mark, chance, None if moment is None else moment * self._lasted)
        detail = "not killed" if moment is None else f"at {moment:.2f} of {self._lasted:.1f} s"
        detail = f"{detail}, attempt {number}: {outcome.detail}"
        if still := _wait_for(mark):
            tally.add(self.name, "still running", f"{detail}: {', '.join(still)}")
        whole = self._look(out, detail, tally)
        if outcome.ending == "killed":
            tally.add(self.name, "killed when done" if whole else "killed", detail)
        elif outcome.ending == "done" and finishes and not whole:
            tally.add(self.name, "not resumed", detail)
        elif finishes and outcome.ending != "done":
            tally.add(self.name, "not resumed" if outcome.ending == "refused" else outcome.ending, detail)
        else:
            tally.add(self.name, "finished" if finishes else outcome.ending, detail)
        if whole or finishes:
            left = sorted(path.name for path in self.place.iterdir() if path != out)
            if outcome.ending == "done" and left:
                tally.add(self.name, "left behind", f"{detail}: {', '.join(left)}")
            _empty(self.place)

    def _disturbed(self, out: Path, mark: str, chance: random.Random, moment: float | None) -> Outcome:
        """Run the job, and kill it or disturb it after so many seconds; None for never."""

        def run() -> None:
            self._marked(out, mark)

        if moment is None or self.disturbs is None:
            return attempt(run, seconds=self.seconds, kill_after=moment)
        with ExitStack() as stack:
            disturbance = self.disturbs(self.place, chance)
            return attempt(run, seconds=self.seconds, meanwhile=(moment, lambda: stack.enter_context(disturbance)))

    def _measure(self) -> None:
        _empty(self.place)
        out = self.place / "out"
        begun = time.monotonic()
        outcome = attempt(lambda: self._marked(out, "first"), seconds=self.seconds)
        self._lasted = time.monotonic() - begun
        if outcome.ending != "done":
            raise InputError(
                f"{self.name} cannot be done to begin with",
                received=outcome.detail or outcome.ending,
                allowed="a run that ends well when it is not killed",
                fix="Repair it first.",
            )
        self._first = self._digest(out).result
        _empty(self.place)

    def _marked(self, out: Path, mark: str) -> None:
        os.environ[_MARK] = mark  # which its own children inherit
        self.job(out)

    def _look(self, out: Path, detail: str, tally: Tally) -> bool:
        """Whether a whole result lies there; half a one is a fault."""
        if not out.exists():
            return False
        outcome = self._digest(out)
        if outcome.ending != "done":
            tally.add(self.name, "half artifact", f"{detail}: {outcome.detail}")
        elif outcome.result is not None and self.repeats and outcome.result != self._first:
            tally.add(self.name, "other answer", f"{detail}: another result than of a run that was not killed")
        return outcome.ending == "done" and outcome.result is not None

    def _digest(self, out: Path) -> Outcome:
        return attempt(lambda: self.digest(out), seconds=self.seconds)


def _wait_for(mark: str) -> list[str]:
    """Commands of processes with this mark that do not end by themselves."""
    until = time.monotonic() + _PATIENCE
    while (commands := _marked_processes(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    return commands


def _marked_processes(mark: str) -> list[str]:
    entry = f"{_MARK}={mark}".encode()
    commands = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if entry in (place / "environ").read_bytes().split(b"\0") and " Z" not in (place / "stat").read_text():
                commands.append(
                    (place / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                )
        except OSError:  # it has ended, or is not ours
            continue
    return commands


def _empty(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
