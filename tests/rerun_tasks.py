"""What a cluster may do to tasks, without one: send them elsewhere, in any order, and run them more than once."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from exporter.cluster import Task


def rerun_tasks(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    """In place of `exporter.cluster.run_tasks`: each task as if its worker had been lost at its end."""
    for index, task in reversed(list(enumerate(tasks))):
        sent: Task = pickle.loads(pickle.dumps(task))  # noqa: S301 - our own
        sent.function(*sent.arguments)
        yield index, sent.function(*sent.arguments)


def without_a_cluster(monkeypatch: pytest.MonkeyPatch, *, connects: str, runs: str) -> None:
    """Have a module that connects to a cluster, and one that runs tasks there, do without Ray."""
    monkeypatch.setattr(f"{connects}.cluster", lambda address: nullcontext())
    monkeypatch.setattr(f"{runs}.run_tasks", rerun_tasks)
