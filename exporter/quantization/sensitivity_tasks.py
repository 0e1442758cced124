"""The measurement of sensitivity on a cluster: a task for each decoder layer, and one for the embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jisu.exporter.jobs.ray_tasks import Task, run_tasks
from jisu.exporter.quantization.sensitivity import Part, measure_parts
from jisu.exporter.sources.worker_source import WorkerSource

if TYPE_CHECKING:
    from jisu.calibration.sensitivity import GroupSensitivity


def measure_parts_on_cluster(
    source: WorkerSource, shares: Mapping[str, Sequence[Any]], parts: Sequence[Part], *, memory_bytes: int
) -> Iterator[tuple[Part, list[GroupSensitivity]]]:
    """Measure parts on the connected cluster; yields each as it is done. A layer's figures depend on no other task.

    Args:
        shares: see `exporter.quantization.sensitivity.split_windows`.
        memory_bytes: what a task needs.

    Raises:
        InputError: no machine has that much memory.
        LostTaskError: the workers of a task ended again and again.
    """
    tasks = [
        Task(
            name=f"sensitivity of {part}",
            function=measure_part,
            arguments=(source, shares, part),
            memory_bytes=memory_bytes,
        )
        for part in parts
    ]
    for index, groups in run_tasks(tasks):
        if isinstance(groups, Exception):
            raise groups
        yield parts[index], groups


def measure_part(source: WorkerSource, shares: Mapping[str, Sequence[Any]], part: Part) -> list[GroupSensitivity]:
    """The groups of one part, in a worker."""
    [(_, groups)] = measure_parts(source.load(), shares, [part])
    return groups
