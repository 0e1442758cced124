"""Rounding without text on a cluster: weights are independent, and a task rounds a few."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from jisu.exporter.jobs.ray_tasks import Task, run_tasks
from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.sources.half_width import float32_array
from jisu.exporter.sources.worker_source import Workers, WorkerSource

if TYPE_CHECKING:
    from jisu.calibration.weights.formats import BlockQuantized

WEIGHTS = 16  # of a task: about two decoder layers


def round_on_cluster(workers: Workers, forms: Mapping[str, WeightFormat]) -> Iterator[dict[str, BlockQuantized]]:
    """Round the weights of layers, by their names, on the connected cluster; yields those of each task as it is done.

    Raises:
        InputError: no machine has the memory that a task needs.
        LostTaskError: the workers of a task ended again and again.
    """
    left = iter(forms.items())
    parts = [part for _ in range(0, len(forms), WEIGHTS) if (part := dict(islice(left, WEIGHTS)))]
    tasks = [
        Task(
            name=f"rounding of {next(iter(part))}",
            function=round_part,
            arguments=(workers.source, part),
            memory_bytes=workers.memory_bytes,
        )
        for part in parts
    ]
    for _, rounded in run_tasks(tasks):
        if isinstance(rounded, Exception):
            raise rounded
        yield rounded


def round_part(source: WorkerSource, forms: Mapping[str, WeightFormat]) -> dict[str, BlockQuantized]:
    """Some of the weights, in a worker."""
    from jisu.exporter.tracing.expert_layers import expert_layers

    module = source.load().module
    with expert_layers(module):
        return {name: round_weight(module, name, form) for name, form in forms.items()}


def round_weight(module: Any, name: str, form: WeightFormat) -> BlockQuantized:
    """The weight of a layer, by its name, rounded to the nearest."""
    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    return round_to_nearest(float32_array(module.get_submodule(name).weight), form.to_block_format(), layer=name)
