"""Moves the weights that a library has just read into large pages of memory, without the library knowing.

A token reads every weight once. In pages of 4 KiB the CPU looks up where each of them lies about as often as its
cache of such answers can hold no more, and a virtual machine looks up twice; in pages of 2 MiB it hardly does. Linux
gives large pages only where they are asked for (its ``transparent_hugepage`` says ``madvise``), and the allocators
under our libraries do not ask. See madvise(2), ``MADV_HUGEPAGE`` and ``MADV_COLLAPSE`` (Linux 6.1).

Nothing depends on it but speed: where there are no large pages, or no more of them, the memory stays as it is.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LARGE = 2 << 20
# Collapsing copies; in memory that a virtual machine has never used before it takes a hundred times longer than
# elsewhere, and the user waits for it.
LONGEST_SECONDS = 1.0

_MAPS = Path("/proc/self/maps")
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_MADV_HUGEPAGE = 14
_MADV_COLLAPSE = 25

Ranges = list[tuple[int, int]]


@contextmanager
def in_huge_pages() -> Iterator[None]:
    """Put what is allocated inside, and still there at the end, into large pages, where the system allows them."""
    if not are_allowed():
        yield
        return
    before = anonymous_ranges(_MAPS.read_text())
    yield
    collapse(large_blocks(anonymous_ranges(_MAPS.read_text()), without=before))


def are_allowed() -> bool:
    """Whether this is a Linux on which a program may ask for large pages."""
    return sys.platform == "linux" and _SETTING.is_file() and "[never]" not in _SETTING.read_text()


def anonymous_ranges(maps: str) -> Ranges:
    """Where a process has writable memory of its own that no file stands behind: (start, end) in ascending order.

    Args:
        maps: the text of ``/proc/PID/maps``, see proc_pid_maps(5). Stacks and the kernel's own pages are left out.
    """
    ranges = []
    for line in maps.splitlines():
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            start, end = (int(address, 16) for address in addresses.split("-"))
            ranges.append((start, end))
    return ranges


def large_blocks(ranges: Ranges, *, without: Ranges) -> list[int]:
    """Addresses of the aligned blocks of `LARGE` bytes that lie in ``ranges`` and touch nothing of ``without``."""
    blocks = []
    for start, end in ranges:
        overlapping = [old for old in without if old[0] < end and start < old[1]]
        blocks += [
            block
            for block in range(-(-start // LARGE) * LARGE, end - LARGE + 1, LARGE)
            if not any(low < block + LARGE and block < high for low, high in overlapping)
        ]
    return blocks


def collapse(blocks: list[int], *, longest_seconds: float = LONGEST_SECONDS) -> int:
    """Ask for large pages in place of the small ones of each block; returns how many blocks have become one page.

    Blocks in which there is nothing yet are refused by the system, which is as it should be.
    """
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    end = time.monotonic() + longest_seconds
    done = 0
    for block in blocks:
        if time.monotonic() > end:
            break
        libc.madvise(block, LARGE, _MADV_HUGEPAGE)
        done += libc.madvise(block, LARGE, _MADV_COLLAPSE) == 0
    return done
