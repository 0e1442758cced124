"""Gives memory that was freed back to the system, which the C library keeps for itself otherwise."""

from __future__ import annotations

import ctypes
import sys


def give_back_freed() -> None:
    """Trim the heap where the C library can (glibc's malloc_trim); costs milliseconds. Nothing happens elsewhere."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in musl
    if trim is not None:
        trim(0)
