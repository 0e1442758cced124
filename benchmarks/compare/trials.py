"""Trials of several contestants, interleaved so that a noisy machine hits all of them alike, and their summary."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jisu.benchmarks.compare.machine import machine

Numbers = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Median and range of one number over the trials."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.least:.4g}-{self.most:.4g})"


def interleave(
    contestants: Mapping[str, Callable[[], Numbers]], *, trials: int, warmups: int = 1
) -> dict[str, dict[str, Summary]]:
    """Run A B C, A B C, ... and summarize each contestant's numbers over the trials after the warm-ups."""
    trials_by_name: dict[str, list[Numbers]] = {name: [] for name in contestants}
    for trial in range(warmups + trials):
        for name, run in contestants.items():
            numbers = run()
            if trial >= warmups:
                trials_by_name[name].append(numbers)
    return {
        name: {key: _summary([row[key] for row in rows]) for key in rows[0]} for name, rows in trials_by_name.items()
    }


def report(name: str, results: Mapping[str, Mapping[str, Summary]], *, out: Path | None) -> None:
    """Print a table, one line per contestant, and write everything as JSON when ``out`` is given."""
    keys = list(next(iter(results.values())))
    width = max(len(contestant) for contestant in results)
    print(f"{name:{width}}  " + "  ".join(f"{key:>28}" for key in keys))
    for contestant, row in results.items():
        print(f"{contestant:{width}}  " + "  ".join(f"{row[key]!s:>28}" for key in keys))
    if out is not None:
        data = {
            "benchmark": name,
            "command": sys.argv,
            "machine": machine(),
            "results": {
                contestant: {key: asdict(value) for key, value in row.items()} for contestant, row in results.items()
            },
        }
        out.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _summary(values: list[float]) -> Summary:
    return Summary(median=statistics.median(values), least=min(values), most=max(values))
