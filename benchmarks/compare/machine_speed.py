"""How fast this machine is right now, by a fixed loop that no change of ours can make faster or slower.

Two runs of one machine are comparable when it ran at the same speed: a virtual machine may have been given less.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SMALL = 1 << 15  # float32 values of one array; three of them stay in a core's own cache
_LARGE = 4 << 20  # values that are read from memory
_STEPS = 1000
_TRIALS = 5


def measure_machine_speed(threads: int, *, trials: int = _TRIALS) -> float:
    """Rounds a second of ``threads`` threads that each compute in the cache and read memory; the median of the trials.

    The parts take about as long as each other, 10 ms; numpy's own loops, so that no BLAS takes other threads.
    """
    import statistics

    import numpy as np

    arrays = [
        (np.full(_SMALL, 1.0001, np.float32), np.zeros(_SMALL, np.float32), np.ones(_LARGE, np.float32))
        for _ in range(threads)
    ]
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for trial in range(trials + 1):
            started = time.perf_counter()
            for _ in pool.map(_compute_and_read, arrays):
                pass
            if trial:  # the first one warms up
                seconds.append(time.perf_counter() - started)
    return 1 / statistics.median(seconds)


def _compute_and_read(arrays: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]) -> None:
    import numpy as np

    factor, total, large = arrays
    total.fill(0.0)
    for _ in range(_STEPS):
        np.multiply(total, factor, out=total)
        np.add(total, factor, out=total)
    for _ in range(2):
        np.max(large)
