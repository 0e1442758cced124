"""How fast this machine reads memory: what a decoder that reads all its weights for every token is limited by."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

BYTES_PER_THREAD = 128 << 20  # beyond the share of the last cache that one thread could have
TRIALS = 5


def measure_read_bandwidth(threads: int, *, size: int = BYTES_PER_THREAD, trials: int = TRIALS) -> float:
    """Bytes per second of ``threads`` threads that each read memory of their own; the best of the trials.

    The best and not the median: other programs can only make it slower.
    """
    import numpy as np

    parts = [np.ones(size // 8, np.int64) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(trials):
            started = time.perf_counter()
            for _ in pool.map(np.max, parts):  # vectorized, one pass, and without the interpreter's lock
                pass
            best = max(best, threads * size / (time.perf_counter() - started))
    return best
