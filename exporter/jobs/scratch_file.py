"""Arrays in a file that only this process sees: mapped, read like any other, and let go of without being lost.

What is let go of costs no memory until it is read again. The file has no name where the system can do without one, so
that nothing stays behind whatever ends the process.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.jobs.output_path import cannot_write

# Every array begins on a page of its own. The first piece of the file that is mapped; each further one is as long as
# all before it together, which costs no disk until something is written there.
_PAGE = mmap.ALLOCATIONGRANULARITY
_FIRST_SEGMENT = 64 << 20
_WRITTEN_AT_ONCE = 1 << 30  # Linux writes no more than 2 GiB in a call


@dataclass(frozen=True)
class _Segment:
    start: int
    memory: mmap.mmap


class ScratchFile:
    """Keeps arrays on the disk. Arrays that it gave out keep their contents for as long as somebody holds them."""

    def __init__(self, folder: Path) -> None:
        """``folder`` lies on a disk, and exists."""
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".jisu-scratch-")  # noqa: SIM115 - lives with the arrays
        self._folder = folder
        self._segments: list[_Segment] = []
        self._size = 0  # of the file, all of it mapped
        self._end = 0  # of what is written
        self._lock = threading.Lock()

    @property
    def stored_bytes(self) -> int:
        """How much has been written so far."""
        return self._end

    def store(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy of an array, of its dtype and shape, in the file; it may be written to as well.

        Raises:
            InputError: the disk is full.
        """
        array = np.ascontiguousarray(array)
        return self.store_pieces(array.shape, array.dtype, [array]) if array.size else array

    def store_pieces(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike, pieces: Iterable[npt.NDArray[Any]]
    ) -> npt.NDArray[Any]:
        """An array in the file that is never in memory as a whole.

        Args:
            shape: of the array; not empty.
            pieces: its rows in their order, some at a time, of its dtype.

        Raises:
            InputError: the disk is full.
        """
        dtype = np.dtype(dtype)
        size = math.prod(shape)
        with self._lock:
            segment, start = self._reserve(size * dtype.itemsize)
        written = 0
        for piece in pieces:
            assert piece.dtype == dtype, "pieces have the dtype of the whole"
            written += self._write(piece, start + written)
        assert written == size * dtype.itemsize, "pieces are the rows of the whole"
        flat: npt.NDArray[Any] = np.frombuffer(segment.memory, dtype, size, start - segment.start)
        return flat.reshape(shape)

    def _write(self, array: npt.NDArray[Any], start: int) -> int:
        """Write an array at a place of the file; returns its bytes."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        written = 0
        try:
            while written < len(data):
                piece = data[written : written + _WRITTEN_AT_ONCE]
                written += os.pwrite(self._file.fileno(), piece, start + written)
        except OSError as error:
            raise cannot_write(self._folder, error, what="file of the weights", option="--out") from error
        return written

    def holds(self, address: int) -> bool:
        """Whether a place in memory belongs to the file."""
        for segment in self._segments:
            first = np.frombuffer(segment.memory, np.uint8).ctypes.data
            if first <= address < first + len(segment.memory):
                return True
        return False

    def let_go(self) -> None:
        """Give the memory of everything that has been read back; whoever reads it again reads the file."""
        if not hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which takes pages back by itself
            return
        for segment in self._segments:
            segment.memory.madvise(mmap.MADV_DONTNEED)

    def _reserve(self, size: int) -> tuple[_Segment, int]:
        start = -(-self._end // _PAGE) * _PAGE
        last = self._segments[-1] if self._segments else None
        if last is None or start + size > self._size:
            start = self._size
            length = max(_FIRST_SEGMENT, self._size, -(-size // _PAGE) * _PAGE)
            self._file.truncate(start + length)
            last = _Segment(start, mmap.mmap(self._file.fileno(), length, offset=start))
            self._segments.append(last)
            self._size = start + length
        self._end = start + size
        return last, start
