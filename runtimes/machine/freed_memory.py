"""Memory that was freed, back to the system: the C library keeps much of it for later."""

from __future__ import annotations

import contextlib
import ctypes


def return_freed_memory() -> None:
    """Let the C library give back what it holds and nobody uses; nothing happens where it has no such call.

    glibc serves the large blocks of a second model from its heap, since it has seen blocks of that size freed, and
    keeps them there when they are freed again (mallopt(3), M_MMAP_THRESHOLD).
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
