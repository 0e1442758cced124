"""Keeps few pages of files in memory that a library has mapped: those read are given back, and read again when needed.

A system does that by itself when memory runs short; until then all that was read counts as held by the process. See
proc_pid_smaps(5) and madvise(2), ``MADV_DONTNEED``. Elsewhere than on Linux nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

PERIOD_SECONDS = 0.05
# Bytes of all mapped files that are resident before some are given back. The system counts a gigabyte of pages in 0.2 s
# to name the mappings, in which time as many more are read.
MOST = 1 << 30

_SMAPS = Path("/proc/self/smaps")
_STATM = Path("/proc/self/statm")  # in pages; the third number counts those of files, see proc_pid_statm(5)


@contextlib.contextmanager
def few_mapped_pages(files: Collection[Path], *, most: int = MOST) -> Iterator[None]:
    """While the body runs, give back the pages of these files whenever files have about ``most`` bytes in memory."""
    if not (_SMAPS.exists() and _STATM.exists() and hasattr(mmap, "MADV_DONTNEED")):
        yield
        return
    ended = threading.Event()
    least = mapped_bytes()

    def watch() -> None:
        nonlocal least
        while not ended.wait(PERIOD_SECONDS):
            if mapped_bytes() - least >= most:
                give_back_pages(files)
                least = mapped_bytes()  # what cannot be given back is not asked for again and again

    thread = threading.Thread(target=watch, name="mapped pages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def give_back_pages(files: Collection[Path]) -> None:
    """Give back the memory of what has been read of these files, of mappings that nobody writes into."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for start, end in unchanged_mappings(_SMAPS.read_text(encoding="utf-8", errors="replace"), files):
        libc.madvise(start, end - start, mmap.MADV_DONTNEED)


def unchanged_mappings(smaps: str, files: Collection[Path]) -> list[tuple[int, int]]:
    """(start, end) of what is mapped of these files and has no page that was written to, which exists nowhere else.

    Args:
        smaps: the text of ``/proc/PID/smaps``.
    """
    names = {str(file.resolve()) for file in files}
    ranges: list[tuple[int, int]] = []
    addresses = ""
    for line in smaps.splitlines():
        field, *rest = line.split(maxsplit=5)
        if not field.endswith(":"):
            addresses = field if len(rest) == 5 and rest[-1] in names else ""
        elif field == "Anonymous:" and addresses and rest[0] == "0":
            start, end = (int(address, 16) for address in addresses.split("-"))
            ranges.append((start, end))
    return ranges


def mapped_bytes() -> int:
    """Of files that are mapped into this process, those in memory."""
    return int(_STATM.read_text(encoding="ascii").split()[2]) * os.sysconf("SC_PAGE_SIZE")
