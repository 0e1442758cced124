"""Weights of a checkpoint that are read where they lie: its files mapped, never written to, and held to what they were.

Nothing is copied, so that neither memory nor disk is taken. A file that changes while it is mapped would change the
model, or end the process where it became shorter: whoever is about to read asks `check` first.
"""

from __future__ import annotations

import math
import mmap
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    import torch

    from jisu.exporter.sources.safetensors_files import StoredTensor

_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


class MappedFiles:
    """The files that tensors were asked of. Tensors keep their contents for as long as somebody holds them.

    transformers reads the tensors of a checkpoint from several threads.
    """

    def __init__(self) -> None:
        self._opening = threading.Lock()
        self._maps: dict[Path, mmap.mmap] = {}
        self._were: dict[Path, tuple[int, int]] = {}

    def tensor(self, stored: StoredTensor) -> torch.Tensor:
        """A tensor of its file, of its dtype and shape; writing to it ends the process.

        Raises:
            InputError: the file is not what it was.
        """
        import torch

        with self._opening:
            if stored.file not in self._maps:
                with stored.file.open("rb") as file:
                    self._were[stored.file] = _state(stored.file)
                    self._maps[stored.file] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.check()
        dtype = getattr(torch, _DTYPES[stored.dtype])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is read only, which is what is meant
            flat = torch.frombuffer(
                self._maps[stored.file], dtype=dtype, count=math.prod(stored.shape), offset=stored.start
            )
        return flat.reshape(stored.shape)

    def check(self) -> None:
        """Raise InputError when a file that is mapped was written to, replaced or removed."""
        for file, state in tuple(self._were.items()):
            now = _state(file) if file.exists() else None
            if now != state:
                raise InputError(
                    f"{file} changed while it was read",
                    received="no such file"
                    if now is None
                    else f"{now[0]} bytes where there were {state[0]}"
                    if now[0] != state[0]
                    else "a later time of its last change",
                    allowed="a checkpoint that stays as it is until the export ends",
                    fix="Wait until it is complete, and export it again.",
                )

    def let_go(self) -> None:
        """Give the memory of what has been read back; whoever reads it again reads the files."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which takes pages back by itself
            for one in tuple(self._maps.values()):
                one.madvise(mmap.MADV_DONTNEED)

    def holds(self, address: int) -> bool:
        """Whether a place in memory belongs to one of the files."""
        import numpy as np

        for one in tuple(self._maps.values()):
            first = np.frombuffer(one, np.uint8).ctypes.data
            if first <= address < first + len(one):
                return True
        return False


def _state(file: Path) -> tuple[int, int]:
    """Bytes, and the time of the last change."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns
