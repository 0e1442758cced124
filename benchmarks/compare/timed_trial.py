"""One timed trial of a workload, by what it is made of; whoever did less than was asked for is out."""

from __future__ import annotations

import math
from typing import Any

from jisu.benchmarks.compare.energy import joules_between, read_energy
from jisu.benchmarks.compare.timed_process import ContestantError, TimedProcess
from jisu.benchmarks.compare.workloads import Workload


def time_trial(process: TimedProcess, feed: Any, workload: Workload) -> dict[str, Any]:
    """The process's answer with its seconds, checked, and the joules of it; raises ContestantError.

    Args:
        feed: token ids of each row; of recordings their files; of what is shown token ids of the one row, and files.
    """
    before = read_energy()
    if workload.calls:
        answer = process.read(feed, workload.calls)
    elif workload.hears:
        answer = process.hear(feed)
    elif workload.shown:
        prompt, files = feed
        answer = process.describe(prompt, files, workload.new_tokens)
    else:
        answer = process.generate(feed, workload.new_tokens)
    if "unsupported" in answer:
        return answer
    joules = joules_between(before, read_energy())
    steps = answer["step_seconds"]
    # What did less than it was asked for would look fast.
    if workload.calls:
        if len(steps) != workload.calls:
            raise ContestantError(f"{len(steps)} calls instead of {workload.calls}")
    elif workload.hears:
        if not len(steps) == len(answer["sound_seconds"]) == len(feed):
            raise ContestantError(f"{len(steps)} recordings instead of {len(feed)}")
    else:
        made, expected = [len(row) for row in answer.pop("tokens")], workload.new_tokens
        if len(steps) != expected or made != [expected] * workload.batch:
            raise ContestantError(f"{made} tokens in {len(steps)} steps instead of {expected}")
    if not all(math.isfinite(step) and step > 0 for step in steps):
        raise ContestantError("a step took no time")
    return {**answer, "joules": joules}
