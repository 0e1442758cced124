"""Work on a matrix a few rows at a time, on all cores: pieces are independent, and NumPy lets threads run at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

FEW = 8  # pieces that a thread is worth starting for
_within = threading.local()


def for_row_pieces(rows: int, piece: int, worker: Callable[[], Callable[[slice], None]], *, few: int = FEW) -> None:
    """Call a worker for every piece of so many rows; what it raises is raised here.

    Within a worker, a further call runs in the worker's own thread.

    Args:
        rows: of the matrix.
        piece: rows of a piece, at least 1.
        worker: makes a function of one piece, once for every thread, which may keep buffers of its own.
        few: pieces that a thread is worth starting for.
    """
    starts = range(0, rows, piece)
    threads = min(-(-len(starts) // few), 1 if getattr(_within, "worker", False) else count_cores())

    def run(first: int) -> None:
        _within.worker = threads > 1 or getattr(_within, "worker", False)
        work = worker()
        for start in starts[first::threads]:
            work(slice(start, min(start + piece, rows)))

    if threads <= 1:
        for first in range(threads):
            run(first)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="rounding") as pool:
        list(pool.map(run, range(threads)))


def count_cores() -> int:
    """Cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
