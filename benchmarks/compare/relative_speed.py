"""Speeds as multiples of a reference row's, measured in the same run: what two machines can be compared by.

Trials are interleaved, so each trial of a row is divided by the reference's trial of the same round: what slows the
machine for a minute slows both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jisu.benchmarks.compare.contestants import Contestant
from jisu.benchmarks.compare.figures import trial_speeds
from jisu.benchmarks.compare.rounds import Outcome
from jisu.benchmarks.compare.summary import summarize
from jisu.benchmarks.compare.workloads import Workload
from jisu.exporter.contract.errors import InputError


def check_reference_row(name: str | None, contestants: Sequence[Contestant]) -> None:
    """Raise InputError for a reference that is no contestant, before anything is measured."""
    names = [item.name for item in contestants]
    if name is not None and name not in names:
        raise InputError(
            "The reference of --relative-to is not among those compared",
            received=name,
            allowed=", ".join(names),
            fix="Name one of these rows, or add its artifact or its backend.",
        )


def relative_speeds(
    outcome: Outcome, reference: Outcome, workloads: Sequence[Workload]
) -> dict[str, dict[str, dict[str, Any]]]:
    """By workload and by speed, the summary of a row's multiples of the reference's; only what both have measured."""
    if outcome.failure is not None or reference.failure is not None:
        return {}
    speeds = {}
    for workload in workloads:
        own, other = (_speeds(item, workload) for item in (outcome, reference))
        speeds[workload.name] = {
            key: summarize([a / b for a, b in zip(own[key], other[key], strict=False)]).to_dict()
            for key in own.keys() & other.keys()
        }
    return {name: figures for name, figures in speeds.items() if figures}


def _speeds(outcome: Outcome, workload: Workload) -> Mapping[str, Sequence[float]]:
    answers = outcome.trials.get(workload.name, [])
    return trial_speeds(answers, workload) if answers and workload.name not in outcome.unsupported else {}
