"""Keeps the weights of a large module in a file, mapped: in memory are those that were read last.

To everybody else the module is like any other. Parameters move into the file one by one as they are loaded, so that
never all of them are in memory; layers let go of what they read, and so may whoever reads weights in another way. For
all others a thread watches how much of the file is in memory, where the system tells.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jisu.exporter.sources.half_width import half_of
from jisu.exporter.sources.outline import is_outline

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import nn

    from jisu.exporter.sources.half_width import Float32Copies
    from jisu.exporter.sources.safetensors_files import StoredTensor
    from jisu.exporter.sources.source import Source
    from jisu.exporter.sources.stored_weights import LazyWeight

Record = TypeVar("Record")

# Models of fewer bytes in float32 stay in memory.
PAGED_FROM = 256 << 20
# Bytes of weights that may be read before they are let go of.
WINDOW = 64 << 20
# Smaller tensors stay in memory.
_SMALL = 1 << 16
# The same of what is made of weights: thousands of experts have scales of 48 kB each.
_SMALL_ARRAY = 1 << 12
# Bytes that the watching thread leaves in memory, and how often it looks.
WATCHED = 3 * WINDOW // 2
_PERIOD_SECONDS = 0.02
_MEMORY = Path("/proc/self/statm")  # pages: the third number counts those of files, see proc_pid_statm(5)


class PagedWeights:
    """The file and what lies in it."""

    def __init__(self, folder: Path, half: torch.dtype | None = None) -> None:
        """
        Args:
            folder: lies on a disk, and exists.
            half: in which matrices are left where the checkpoint has them, see `exporter.sources.half_width`; all
                are float32 in a file of ours when None.
        """
        from jisu.exporter.jobs.scratch_file import ScratchFile
        from jisu.exporter.sources.mapped_files import MappedFiles

        self.half = half
        self._mapped = MappedFiles()
        self._copies: Float32Copies | None = None
        self._scratch = ScratchFile(folder)
        self._read = 0
        self._floor = _file_bytes()
        if _MEMORY.exists():
            threading.Thread(target=_watch, args=(weakref.ref(self),), name="paged weights", daemon=True).start()

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Move every parameter into the file that a module is given while the block runs, in whatever thread."""
        import torch

        def move(_: nn.Module, name: str, parameter: Any) -> None:
            # The same object with other memory: transformers marks parameters that are loaded.
            if parameter is None:
                return
            if self.half is not None and parameter.is_meta:  # transformers loads into the dtype that is there
                if parameter.ndim > 1 and parameter.dtype == torch.float32 and parameter.nbytes >= _SMALL:
                    parameter.data = parameter.data.to(self.half)
            elif self._moves(parameter):
                parameter.data = self._stored(parameter.data)

        handle = torch.nn.modules.module.register_module_parameter_registration_hook(move)
        try:
            yield
        finally:
            handle.remove()
            self.let_go()

    def lazily(self, weights: Mapping[str, LazyWeight]) -> dict[str, LazyWeight]:
        """The same weights; read, each is in the file in float32, or in the checkpoint's own where it is of `half`."""
        import torch

        return {
            name: weight if isinstance(weight, torch.Tensor) else _Moved(weight, self)
            for name, weight in weights.items()
        }

    def adopt(self, module: nn.Module) -> None:
        """Move the parameters that are not in the file yet, and watch the module's layers."""
        if self.half is not None:
            from jisu.exporter.sources.half_width import widen_in_calls

            self._copies = widen_in_calls(module, self._mapped.check)
        for parameter in module.parameters():
            if self._moves(parameter):
                parameter.data = self._stored(parameter.data)
        self.let_go()
        for part in read_as_one(module):
            part.register_forward_hook(_LetsGo(self, sum(one.nbytes for one in part.parameters())))

    def leaves(self, place: StoredTensor) -> bool:
        """Whether a tensor of the checkpoint is read where it lies."""
        is_matrix = len(place.shape) > 1 and 0 not in place.shape
        return self.half is not None and half_of(place.dtype) == self.half and is_matrix

    def mapped(self, place: StoredTensor) -> torch.Tensor:
        """A tensor of the checkpoint where it lies."""
        tensor = self._mapped.tensor(place)
        return tensor if tensor.nbytes >= _SMALL else tensor.clone()

    def store_record(self, record: Record) -> Record:
        """A dataclass whose large arrays lie in the file."""
        import numpy as np

        assert is_dataclass(record)
        arrays = {
            field.name: self._scratch.store(value)
            for field in fields(record)
            if isinstance(value := getattr(record, field.name), np.ndarray) and value.nbytes >= _SMALL_ARRAY
        }
        self.let_go()
        return replace(record, **arrays)  # type: ignore[type-var]

    def store_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of a tensor in the file; a small one as it is."""
        return self._stored(tensor) if tensor.nbytes >= _SMALL else tensor

    def store_pieces(self, shape: tuple[int, ...], pieces: Iterable[npt.NDArray[np.float32]]) -> torch.Tensor:
        """A float32 tensor in the file of which only pieces were in memory: its rows in their order, some at a time."""
        import numpy as np
        import torch

        return torch.from_numpy(self._scratch.store_pieces(shape, np.float32, pieces))

    def count(self, size: int) -> None:
        """Say that so many bytes of weights were read; they are let go of when they have become too many.

        Raises:
            InputError: the checkpoint that they were read from has changed.
        """
        self._mapped.check()
        self._read += size
        if self._read >= WINDOW:
            self.let_go()

    def let_go(self) -> None:
        """Give the memory of what has been read back."""
        self._read = 0
        if self._copies is not None:
            self._copies.forget()
        self._scratch.let_go()
        self._mapped.let_go()
        self._floor = _file_bytes()

    def watch(self) -> None:
        """Let go where more of files has come into memory since the last time than is good."""
        if _file_bytes() - self._floor >= WATCHED:
            self.let_go()

    def _moves(self, parameter: torch.Tensor) -> bool:
        import torch

        return (
            parameter.device.type == "cpu"
            and parameter.dtype in (torch.float32, self.half)
            and parameter.nbytes >= _SMALL
            and not self._scratch.holds(parameter.data_ptr())
            and not self._mapped.holds(parameter.data_ptr())
        )

    def _stored(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        tensor = tensor.detach()
        if tensor.dtype != torch.bfloat16:
            return torch.from_numpy(self._scratch.store(tensor.numpy()))
        return torch.from_numpy(self._scratch.store(tensor.view(torch.int16).numpy())).view(torch.bfloat16)


def _watch(reference: weakref.ref[PagedWeights]) -> None:
    while (paged := reference()) is not None:
        paged.watch()
        del paged
        time.sleep(_PERIOD_SECONDS)


def _file_bytes() -> int:
    """Of files that are mapped into this process, those in memory; 0 where the system does not tell."""
    if not _MEMORY.exists():
        return 0
    return int(_MEMORY.read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")


class _Moved:
    """A weight that has been moved into the file when it is there to be used."""

    def __init__(self, weight: LazyWeight, paged: PagedWeights) -> None:
        self._weight, self._paged = weight, paged

    def __getitem__(self, index: Any) -> torch.Tensor:
        import torch

        place = getattr(self._weight, "place", None)
        if place is not None and index is ... and self._paged.leaves(place):
            return self._paged.mapped(place)
        tensor = self._weight[index]
        if not tensor.is_floating_point():
            return tensor
        stored = self._paged.store_tensor(tensor if tensor.dtype == self._paged.half else tensor.to(torch.float32))
        self._paged.count(stored.nbytes)
        return stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._weight, name)


class _LetsGo:
    """Says after a forward that a part's weights have been read."""

    def __init__(self, paged: PagedWeights, size: int) -> None:
        self._paged, self._size = paged, size

    def __call__(self, *_: Any) -> None:
        self._paged.count(self._size)

    def __deepcopy__(self, memo: dict[int, Any]) -> _LetsGo:
        return self  # the file is one, however many modules read it


def read_as_one(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of the longest list of them, and large modules outside of it that have weights of their own."""
    from jisu.exporter.sources.layers import find_layers

    stack = find_layers(module)
    path = f"{stack.path}." if stack is not None else None
    for name, part in module.named_modules():
        if path is not None and name.startswith(path):
            if "." not in name[len(path) :]:
                yield part
        elif sum(one.nbytes for one in part.parameters(recurse=False)) >= _SMALL:
            yield part


def moving_into(paged: PagedWeights | None) -> contextlib.AbstractContextManager[None]:
    """`PagedWeights.loading`, or nothing where weights stay in memory."""
    return contextlib.nullcontext() if paged is None else paged.loading()


def paged_weights(module: nn.Module, folder: Path | None, half: torch.dtype | None = None) -> PagedWeights | None:
    """Where the weights of a module go; None where they stay in memory.

    Args:
        module: with shapes at least, such as one on torch's meta device.
        folder: on whose disk the file may lie; None for a caller who wants them in memory.
        half: of all its matrices, where these may stay in the checkpoint; otherwise they go into the file as float32.
    """
    import torch

    numbers = sum(parameter.numel() for parameter in module.parameters())
    if folder is None or torch.float32.itemsize * numbers < PAGED_FROM or not hasattr(os, "pwrite"):
        return None
    size = 0 if half is not None else torch.float32.itemsize * numbers
    # Where they do not fit onto the disk, memory is asked.
    return PagedWeights(folder, half) if shutil.disk_usage(folder).free > size else None


def is_large(source: Source) -> bool:
    """Whether the weights of a checkpoint lie in a file, or would where they are loaded."""
    if not is_outline(source):
        return source.paged is not None
    return source.weight_bytes >= PAGED_FROM and source.provenance.get("kind") not in ("module", "factory")
