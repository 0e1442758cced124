"""Rows of one call that run side by side, each part on one thread, instead of all threads sharing every operator.

Operators of a small graph are over before a second thread has begun, and what one thread has written another has to
fetch. The numbers of a row are the same either way.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.runtimes.backends.forks import Reopened
from jisu.runtimes.backends.ort.rows import run_rows
from jisu.runtimes.backends.ort.session import open_session
from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend
from jisu.runtimes.backends.row_lengths import closed
from jisu.runtimes.machine.threads import usable_threads

# Fused, these two take longer than apart where there are many rows: of MiniLM on 8 texts of 64 tokens, a layer norm and
# its sum 0.53 ms instead of 0.15 (onnxruntime 1.32, two cores).
UNFUSED = ("SkipLayerNormFusion", "BiasGeluFusion")
# Texts a second of MiniLM on two threads, apart : shared (onnxruntime 1.32, AVX-512 VNNI), for w8a8-dynamic, int8, int4
# and fp32. 2 texts of 16 tokens: 1.70, 1.28, 1.23, 0.89; 8 of 64: 1.11, 1.15, 1.14, 1.03; 32 of 256: 1.00, 1.06, 1.07,
# 0.98.
# BERT base, w8a8-dynamic and int8: 8 of 16 tokens 1.12, 1.05; 32 of 128: 0.97, 1.08.
# A second session has packed weights of its own, so that a larger graph is not opened twice.
_LARGEST = 128 << 20
# One text of 16, 48, 64 and 96 tokens, where inputs are integers as well: 1.38, 1.19, 1.09 and 0.95 times as many a
# second of MiniLM (25 MB) on one thread as on two; of BERT base (113 MB) 0.78 and less.
_ALONE, _SMALL = 64, 48 << 20


def rows_apart(artifact: Artifact, threads: int | None) -> RowsApart | None:
    """What reads short calls of an artifact; None where that is not faster, or the graph is too large.

    Args:
        threads: how many compute; None for as many as the process may use cores.
    """
    count = usable_threads() if threads is None else threads
    quantization = artifact.manifest.quantization
    if count == 1 or not quantization.get("formats") or artifact.size > _LARGEST:
        return None
    alone = quantization.get("products") and artifact.size <= _SMALL
    return RowsApart(artifact, threads=count, alone=_ALONE if alone else 0)


class RowsApart:
    """An artifact's graph for one thread, which several calls use at the same time; it is opened when first used.

    Args:
        threads: parts of a call.
        alone: tokens of a single row that one thread reads faster than several.
    """

    def __init__(self, artifact: Artifact, *, threads: int, alone: int) -> None:
        self._graph, self._threads, self._alone = artifact.cpu_graph, threads, alone
        self._workers: Reopened | None = None

    def parts(self, rows: int, tokens: int) -> int:
        """Into how many parts a call of so many rows and tokens each is cut; 0 where all threads share it."""
        if rows >= self._threads:
            return self._threads
        return 1 if rows == 1 and tokens <= self._alone else 0

    def run(self, output: str, feeds: dict[str, TokenIds], parts: int) -> Logits:
        """The same as one call of all rows, see `runtimes.backends.ort.rows.run_rows`."""
        if self._workers is None:
            opens = partial(_Workers, self._graph, self._threads)
            self._workers = Reopened(opens, partial(closed, OrtCpuBackend.name))
        logits: Logits = self._workers.get().run(output, feeds, parts)
        return logits

    def close(self) -> None:
        """Let go of the session and the threads; safe to call twice."""
        if self._workers is not None:
            self._workers.close()


class _Workers:
    """A session of one thread, and threads that call it."""

    def __init__(self, graph: Path, threads: int) -> None:
        self._session = open_session(graph, threads=1, unfused=UNFUSED)
        self._pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="jisu-rows")

    def run(self, output: str, feeds: dict[str, TokenIds], parts: int) -> Logits:
        if parts == 1:
            return run_rows(self._session, output, feeds)
        pieces = {name: np.array_split(array, parts) for name, array in feeds.items()}
        calls = [{name: arrays[part] for name, arrays in pieces.items()} for part in range(parts)]
        try:
            others = [self._pool.submit(run_rows, self._session, output, call) for call in calls[1:]]
        except RuntimeError:  # the interpreter ends, and pools take no more calls
            return run_rows(self._session, output, feeds)
        first = run_rows(self._session, output, calls[0])
        return np.concatenate([first, *(other.result() for other in others)])
