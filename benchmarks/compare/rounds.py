"""The timed trials: A B C, A B C, ... for each workload, every process but the timed one stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from jisu.benchmarks.compare.contestants import Contestant
from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.timed_process import ContestantError, TimedProcess
from jisu.benchmarks.compare.timed_trial import time_trial
from jisu.benchmarks.compare.workloads import Workload

WARM_UP_TOKENS = 4  # the prompt's shape and a decode step have been seen by then
WARM_UP_CALLS = 2

Processes = dict[str, TimedProcess]
# (workload, trial) -> what a trial is given; the trial -1 warms up
PromptsOf = Callable[[Workload, int], Any]
Say = Callable[[str], None]


@dataclass(kw_only=True)
class Outcome:
    """What became of a contestant.

    ``trials`` has by workload the answers in the order of the trials; ``unsupported`` by workload the reason why there
    are none. ``operators`` are the times of the graph's operators, or why there are none. ``failure`` says what ended
    it: then none of its figures count.
    """

    contestant: Contestant
    opened: dict[str, Any] | None = None
    trials: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)
    quality: dict[str, Any] | None = None
    operators: list[dict[str, Any]] | str | None = None
    failure: str | None = None

    @property
    def is_measured(self) -> bool:
        return self.failure is None and bool(self.trials)


def restored_outcomes(contestants: Sequence[Contestant], records: Iterable[Mapping[str, Any]]) -> dict[str, Outcome]:
    """The outcomes so far, by the contestants' names, from the records of a `Journal`."""
    outcomes = {item.name: Outcome(contestant=item, failure=item.problem) for item in contestants}
    for record in records:
        outcome = outcomes[record["contestant"]]
        if "opened" in record:
            outcome.opened = record["opened"]
        elif "failure" in record:  # it is tried again: whatever ended it may be over
            continue
        elif "unsupported" in record:
            outcome.unsupported[record["workload"]] = record["unsupported"]
        elif "operators" in record:
            outcome.operators = record["operators"]
        elif "quality" in record:
            outcome.quality = record["quality"]
        else:
            outcome.trials.setdefault(record["workload"], []).append(record["answer"])
    return outcomes


@contextmanager
def open_processes(
    outcomes: Mapping[str, Outcome],
    *,
    needed: Callable[[Outcome], bool],
    time_limit: float,
    journal: Journal,
    say: Say,
) -> Iterator[Processes]:
    """Start the worker of each contestant that is needed and has not failed, one by one; end all afterwards."""
    processes: Processes = {}
    try:
        for name, outcome in outcomes.items():
            if outcome.failure is not None or not needed(outcome):
                continue
            say(f"loading {name}")
            try:
                processes[name] = TimedProcess(outcome.contestant.command, time_limit=time_limit)
            except ContestantError as error:
                fail(outcome, str(error), processes, journal=journal, say=say)
                continue
            if outcome.opened is None:
                outcome.opened = processes[name].opened
                journal.add({"contestant": name, "opened": outcome.opened})
        yield processes
    finally:
        for process in processes.values():
            process.close()


def fail(outcome: Outcome, what: str, processes: Processes, *, journal: Journal, say: Say) -> None:
    """Take a contestant out: its process is ended, its row says what happened, the others go on."""
    name = outcome.contestant.name
    outcome.failure = what
    journal.add({"contestant": name, "failure": what})
    say(f"{name} failed: {what}")
    if name in processes:
        processes.pop(name).close()


def is_timed(outcome: Outcome, workloads: Sequence[Workload], trials: int) -> bool:
    """Whether all trials of a contestant are there."""
    return all(
        item.name in outcome.unsupported or len(outcome.trials.get(item.name, ())) >= trials for item in workloads
    )


def measure_rounds(
    outcomes: Mapping[str, Outcome],
    processes: Processes,
    workloads: Sequence[Workload],
    prompts_of: PromptsOf,
    *,
    trials: int,
    journal: Journal,
    say: Say,
    before_round: Callable[[], None] = lambda: None,
) -> None:
    """Run the trials that are missing, after one short one to warm up; the outcomes are filled in.

    Args:
        before_round: called when every process is stopped, before each round that counts.
    """
    for workload in workloads:
        waiting = [outcome for outcome in outcomes.values() if not is_timed(outcome, [workload], trials)]
        waiting = [outcome for outcome in waiting if outcome.contestant.name in processes]
        for trial in range(-1, trials):
            warms_up = trial < 0
            due = [item for item in waiting if item.failure is None and not _has_trial(item, workload, trial)]
            if due and not warms_up:
                say(f"{workload.name}: round {trial + 1} of {trials}")
                before_round()
            prompts = prompts_of(workload, trial)
            for outcome in due:
                request = _shortened(workload) if warms_up else workload
                try:
                    answer = time_trial(processes[outcome.contestant.name], prompts, request)
                except ContestantError as error:
                    fail(outcome, f"{workload.name}: {error}", processes, journal=journal, say=say)
                    continue
                _keep(outcome, workload.name, answer, journal=journal, counts=not warms_up)


def _has_trial(outcome: Outcome, workload: Workload, trial: int) -> bool:
    """Whether an earlier run has measured it, or nobody can; the trial -1 warms up, whatever was measured before."""
    return workload.name in outcome.unsupported or len(outcome.trials.get(workload.name, ())) > trial >= 0


def _shortened(workload: Workload) -> Workload:
    return replace(
        workload,
        new_tokens=min(WARM_UP_TOKENS, workload.new_tokens),
        calls=min(WARM_UP_CALLS, workload.calls),
    )


def _keep(outcome: Outcome, workload: str, answer: dict[str, Any], *, journal: Journal, counts: bool) -> None:
    name = outcome.contestant.name
    if "unsupported" in answer:
        outcome.unsupported[workload] = answer["unsupported"]
        journal.add({"contestant": name, "workload": workload, "unsupported": answer["unsupported"]})
    elif counts:
        outcome.trials.setdefault(workload, []).append(answer)
        journal.add({"contestant": name, "workload": workload, "answer": answer})
