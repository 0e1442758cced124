"""Memory that a test takes from the system and gives back, whatever the allocator has kept of earlier tests."""

from __future__ import annotations

import mmap
import time

BLOCK = 64 * 1024 * 1024


def hold_memory(*, seconds: float = 0.0) -> None:
    """Make `BLOCK` bytes resident for a while. A bytearray would not do: it may come to lie in memory already held."""
    with mmap.mmap(-1, BLOCK) as block:
        for start in range(0, BLOCK, mmap.PAGESIZE):
            block[start] = 1
        time.sleep(seconds)
