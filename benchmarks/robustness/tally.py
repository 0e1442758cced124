"""How many attempts ended in which way; kept in a file, so that a run which was ended early resumes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError

# What no attempt may end in.
FAULTS = (
    "traceback",
    "hang",
    "crash",
    "other answer",
    "dropped in silence",
    "half artifact",
    "left behind",
    "not resumed",
    "still running",
)
_SHOWN = 12  # details of each kind


@dataclass(kw_only=True)
class Tally:
    """How many attempts on each file ended in which way, examples of the faults, and how many were made.

    ``made`` has by the name of a trial the number of its attempts: the next one has that number.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, ending: str, detail: str = "") -> None:
        self.counts.setdefault(what, Counter())[ending] += 1
        if ending in FAULTS and len(kept := self.examples.setdefault(f"{what}: {ending}", [])) < _SHOWN:
            kept.append(detail)

    @property
    def faults(self) -> int:
        return sum(count for ends in self.counts.values() for ending, count in ends.items() if ending in FAULTS)

    @property
    def attempts(self) -> int:
        return sum(count for ends in self.counts.values() for count in ends.values())

    def to_dict(self) -> dict[str, Any]:
        return {
            "attempts": self.attempts,
            "faults": self.faults,
            "counts": {what: dict(ends) for what, ends in self.counts.items()},
            "examples": self.examples,
            "made": self.made,
        }

    def write(self, path: Path) -> None:
        """Whole or not at all: a kill leaves the counts of before."""
        beside = path.with_name(f"{path.name}.partial")
        beside.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        beside.replace(path)

    def render(self) -> str:
        """One line for each damaged file, and examples of what must not happen."""
        width = max(map(len, self.counts), default=0)
        lines = [
            f"{what:{width}}  {', '.join(f'{count} {ending}' for ending, count in sorted(ends.items()))}"
            for what, ends in sorted(self.counts.items())
        ]
        lines += [f"{what}: {detail}" for what, details in self.examples.items() for detail in details]
        lines.append(f"{self.attempts} attempts, {self.faults} faults")
        return "\n".join(lines) + "\n"


def table(tally: Tally) -> str:
    """The counts in Markdown, a line for each trial: how many attempts, how they ended, the most frequent first."""
    by_trial: dict[str, Counter[str]] = {}
    for what, ends in tally.counts.items():
        by_trial.setdefault(what.partition(":")[0], Counter()).update(ends)
    lines = ["| tried | attempts | ended in | faults |", "|---|---:|---|---:|"]
    for trial, ends in sorted(by_trial.items()):
        said = ", ".join(f"{count} {ending}" for ending, count in ends.most_common() if ending not in FAULTS)
        faults = sum(count for ending, count in ends.items() if ending in FAULTS)
        lines.append(f"| {trial} | {sum(ends.values()):,} | {said} | {faults} |")
    lines.append(f"| **all** | **{tally.attempts:,}** | | **{tally.faults}** |")
    return "\n".join(lines) + "\n"


def read_tally(path: Path) -> Tally:
    """The counts of an earlier run; none where there is no file.

    Raises:
        InputError: the file holds something else.
    """
    if not path.exists():
        return Tally()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Tally(
            counts={str(what): Counter(ends) for what, ends in data["counts"].items()},
            examples={str(what): list(details) for what, details in data["examples"].items()},
            made={str(name): int(number) for name, number in data["made"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not hold the counts of an earlier run",
            received=f"{type(error).__name__}: {error}",
            allowed="a file that --out has written, or none",
            fix="Name another --out.",
        ) from error
