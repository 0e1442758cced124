"""Attempts with a damaged file: of an artifact, which must answer as before or be refused, and of other inputs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jisu.benchmarks.robustness.attempt import Outcome, attempt
from jisu.benchmarks.robustness.mutants import mutate
from jisu.benchmarks.robustness.tally import Tally
from jisu.exporter.contract.artifact import TIMINGS
from jisu.exporter.contract.errors import InputError


@dataclass(kw_only=True)
class Damage:
    """One input whose files are damaged, each in its turn.

    Attributes:
        name: of the trial.
        path: a folder or a file.
        read: what is done with a damaged copy; its result can be held by JSON.
        place: an empty folder for the copy.
        seconds: after which an attempt hangs.
        seed: other numbers damage other places.
        keeps_answer: whether a copy that is not refused has to answer as the whole one does.
    """

    name: str
    path: Path
    read: Callable[[Path], Any]
    place: Path
    seconds: float
    seed: int = 0
    keeps_answer: bool = False
    _whole: Outcome | None = None
    _names: tuple[str, ...] = ()

    @property
    def whole(self) -> Outcome:
        """How the undamaged input is read; found once.

        Raises:
            InputError: it cannot be used to begin with.
        """
        if self._whole is None:
            self._whole = attempt(lambda: self.read(self.path), seconds=10 * self.seconds)
            if self._whole.ending != "done":
                raise InputError(
                    f"{self.path} cannot be used to begin with",
                    received=self._whole.detail or self._whole.ending,
                    allowed="a file that can be read before it is damaged",
                    fix="Repair it first.",
                )
        return self._whole

    def run(self, number: int, tally: Tally) -> None:
        """The attempt of this number."""
        whole = self.whole
        self._names = self._names or tuple(files_of(self.path))
        name = self._names[number % len(self._names)]
        seed = self.seed + number
        with self.damaged(name, seed) as (copy, how, data):
            outcome = attempt(lambda: self.read(copy), seconds=self.seconds)
            ending, more = self.judged(name, data, outcome, whole)
        what = f"{self.name}: {name or self.path.suffix}"
        tally.add(what, ending, f"{how}, seed {seed}: {more or outcome.detail}")

    def judged(self, name: str, damaged: bytes, outcome: Outcome, whole: Outcome) -> tuple[str, str]:
        """How the attempt counts, and more about it."""
        if outcome.ending != "done" or not self.keeps_answer:
            return outcome.ending, ""
        if outcome.result == whole.result:
            return "same answer", ""
        return "other answer", f"{outcome.result} instead of {whole.result}"[:300]

    def original(self, name: str) -> bytes:
        """The undamaged bytes of a file."""
        return (self.path / name if name else self.path).read_bytes()

    @contextmanager
    def damaged(self, name: str, seed: int) -> Iterator[tuple[Path, str, bytes]]:
        """(a copy with one file damaged, how, its damaged bytes)."""
        how, data = mutate(name, self.original(name), seed)
        with self.copy_with(name, data) as copy:
            yield copy, how, data

    @contextmanager
    def copy_with(self, name: str, data: bytes) -> Iterator[Path]:
        """A copy with other bytes in one of its files."""
        copy = self.place / self.path.name
        shutil.rmtree(self.place)
        self.place.mkdir()
        if self.path.is_dir():
            copy.mkdir()
            for file in self.path.rglob("*"):
                target = copy / file.relative_to(self.path)
                if file.is_dir():
                    target.mkdir(exist_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, target)
        (copy / name if name else copy).write_bytes(data)
        yield copy


def files_of(path: Path) -> list[str]:
    """Names of the files to damage; "" for an input that is one file."""
    if path.is_file():
        return [""]
    return sorted(
        str(file.relative_to(path))
        for file in path.rglob("*")
        if file.is_file() and file.stat().st_size and file.name not in (TIMINGS, "README.md", ".gitattributes")
    )
