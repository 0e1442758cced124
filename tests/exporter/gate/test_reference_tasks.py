from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.gate import reference_tasks
from jisu.exporter.gate.reference import reference_of
from jisu.exporter.gate.reference_tasks import ClusterReference, on_cluster
from jisu.exporter.jobs.ray_tasks import LostTaskError, Task, run_here
from jisu.exporter.sources import load_source
from jisu.exporter.sources.worker_source import Workers, worker_source


@pytest.fixture(scope="module")
def source(tiny_source: Path) -> Any:
    return load_source(tiny_source)


@pytest.fixture
def reference(source: Any, tiny_source: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With tasks in this process."""
    monkeypatch.setattr(reference_tasks, "run_tasks", run_here)
    return on_cluster(reference_of(source), source, Workers(source=worker_source(tiny_source), memory_bytes=1))


def sequences(*lengths: int) -> list[Any]:
    return [(np.arange(length, dtype=np.int64) * 7 + length) % 384 for length in lengths]


def test_the_truth_is_that_of_this_process(reference: Any, source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_tasks, "TOKENS", 20)
    steps: list[tuple[int, int]] = []
    several = sequences(7, 12, 5, 30, 7)
    reference.prepare(several, lambda done, total: steps.append((done, total)))
    assert steps == [(2, 4), (3, 4), (4, 4)]  # 7 and 12, 5, 30; the last one is known
    plain = reference_of(source)
    for tokens in several:
        np.testing.assert_array_equal(reference.logits(tokens), plain.logits(tokens))
    reference.prepare(several, lambda done, total: steps.append((0, 0)))
    assert len(steps) == 3


def test_a_truth_of_other_sequences_is_found(reference: Any, source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above can fail."""
    part = reference_tasks.prepare_part
    monkeypatch.setattr(reference_tasks, "prepare_part", lambda source, shard: part(source, shard)[::-1])
    several = sequences(9, 9)
    several[1] = several[1][::-1].copy()
    reference.prepare(several)
    assert not np.array_equal(reference.logits(several[0]), reference_of(source).logits(several[0]))


def test_a_lost_task_ends_it(reference: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        yield 0, LostTaskError("Its worker was lost.")

    monkeypatch.setattr(reference_tasks, "run_tasks", lost)
    with pytest.raises(LostTaskError):
        reference.prepare(sequences(4))


def test_without_a_cluster_and_without_layers_the_reference_stays(source: Any, reference: Any) -> None:
    plain = reference_of(source)
    assert on_cluster(plain, source, None) is plain
    assert isinstance(reference, ClusterReference)
    other: Any = object()
    assert on_cluster(other, source, Workers(source=worker_source("none"), memory_bytes=1)) is other
