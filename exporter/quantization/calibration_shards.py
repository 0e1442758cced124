"""Statistics of activations on a cluster: a task for every few windows, whose sums are added up.

Each shard lies in a folder of its own beside the result, where a task that is run again resumes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.jobs.ray_tasks import Task, run_tasks
from jisu.exporter.sources.worker_source import WorkerSource

if TYPE_CHECKING:
    from jisu.calibration.statistics.collect import CollectSettings
    from jisu.calibration.statistics.statistics import Statistics
    from jisu.calibration.text.windows import TokenIds, Windows

WINDOWS = 8  # of a shard


def collect_on_cluster(
    source: WorkerSource,
    windows: Windows,
    folder: Path,
    *,
    settings: CollectSettings,
    memory_bytes: int,
    progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """Like `calibration.statistics.collect.collect`, on the connected cluster.

    Args:
        memory_bytes: what a task needs.
        progress: called with the windows done and their number.

    Raises:
        InputError: no machine has that much memory.
        LostTaskError: the workers of a task ended again and again.
        CalibrationError: see `collect`.
    """
    from jisu.calibration.statistics.add_statistics import add_statistics
    from jisu.calibration.statistics.collect import PROBE_TOKENS
    from jisu.calibration.text.windows import Windows

    place = folder.resolve().with_name(f"{folder.name}.shards")
    shards = [
        Windows(ids=windows.ids[start : start + WINDOWS], seed=windows.seed)
        for start in range(0, len(windows.ids), WINDOWS)
    ]
    tasks = [
        Task(
            name=f"calibration windows {number * WINDOWS} to {number * WINDOWS + len(shard.ids) - 1}",
            function=collect_shard,
            arguments=(source, shard, place / f"{number:03d}", settings, windows.ids[0][:PROBE_TOKENS]),
            memory_bytes=memory_bytes,
        )
        for number, shard in enumerate(shards)
    ]
    done = 0
    for index, lost in run_tasks(tasks):
        if isinstance(lost, Exception):
            raise lost
        done += len(shards[index].ids)
        if progress:
            progress(done, len(windows.ids))
    statistics = add_statistics(
        [place / f"{number:03d}" for number in range(len(shards))], folder, windows=windows.sha256
    )
    shutil.rmtree(place)
    return statistics


def collect_shard(
    source: WorkerSource, windows: Windows, folder: Path, settings: CollectSettings, probe: TokenIds
) -> None:
    """Collect the statistics of some windows into a folder, in a worker."""
    from jisu.calibration.statistics.collect import collect
    from jisu.exporter.tracing.expert_layers import expert_layers

    module = source.load().module
    with expert_layers(module):
        collect(module, windows, folder, settings=settings, probe=probe)
