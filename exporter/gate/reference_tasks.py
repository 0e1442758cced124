"""The truth on a cluster: sequences are independent, and a task walks the layers over some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.layered_reference import LayeredReference, walking
from jisu.exporter.jobs.ray_tasks import Task, run_tasks
from jisu.exporter.sources.source import Source
from jisu.exporter.sources.worker_source import Workers, WorkerSource

TOKENS = 4096  # of a task, or one sequence


class ClusterReference:
    """`Reference` whose prepared sequences were run by the connected cluster; any other is asked here."""

    def __init__(self, layered: LayeredReference, workers: Workers) -> None:
        self._layered, self._workers = layered, workers
        self.vocab_size = layered.vocab_size
        self.description = f"{layered.description}, on a cluster"

    def prepare(self, sequences: Sequence[TokenIds], progress: Callable[[int, int], None] | None = None) -> None:
        """See `LayeredReference.prepare`; progress is counted in sequences.

        Raises:
            InputError: no machine has the memory that a task needs.
            LostTaskError: the workers of a task ended again and again.
        """
        shards = _shards(self._layered.unknown(sequences))
        tasks = [
            Task(
                name=f"reference of {len(shard)} sequences",
                function=prepare_part,
                arguments=(self._workers.source, shard),
                memory_bytes=self._workers.memory_bytes,
            )
            for shard in shards
        ]
        done, total = 0, sum(map(len, shards))
        for index, states in run_tasks(tasks):
            if isinstance(states, Exception):
                raise states
            for tokens, last in zip(shards[index], states, strict=True):
                self._layered.keep(tokens, last)
            done += len(shards[index])
            if progress is not None:
                progress(done, total)

    def forget(self) -> None:
        """Give the memory of what was prepared back."""
        self._layered.forget()

    def logits(self, token_ids: TokenIds, positions: slice | None = None) -> npt.NDArray[np.float32]:
        """See `jisu.exporter.gate.reference.Reference.logits`."""
        return self._layered.logits(token_ids, positions)


def on_cluster(reference: Any, source: Source, workers: Workers | None) -> Any:
    """A reference whose sequences a cluster runs; as it is without one, or where layers cannot be walked."""
    if workers is None:
        return reference
    layered = reference if isinstance(reference, LayeredReference) else walking(reference, source)
    return reference if layered is None else ClusterReference(layered, workers)


def prepare_part(source: WorkerSource, sequences: Sequence[TokenIds]) -> list[npt.NDArray[np.float32]]:
    """What leaves the last layer on each sequence, in a worker."""
    from jisu.exporter.gate.reference import reference_of

    loaded = source.load()
    layered = walking(reference_of(loaded), loaded)
    assert layered is not None, "a worker's model is the same one"
    layered.prepare(sequences)
    return [layered.last(tokens) for tokens in sequences]


def _shards(sequences: Sequence[TokenIds]) -> list[list[TokenIds]]:
    """Neighbours together, up to `TOKENS`."""
    shards: list[list[TokenIds]] = []
    room = 0
    for tokens in sequences:
        if not shards or len(tokens) > room:
            shards.append([])
            room = TOKENS
        shards[-1].append(tokens)
        room -= len(tokens)
    return shards
