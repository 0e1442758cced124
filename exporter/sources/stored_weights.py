"""The stored tensors of a folder: opened, with their shapes and dtypes, and read one by one when they are indexed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.pickled_weights import read_pickled_weights
from jisu.exporter.sources.safetensors_files import StoredTensor, read_tables

if TYPE_CHECKING:
    import torch


class LazyWeight(Protocol):
    """A stored weight that is read when it is indexed with an ellipsis."""

    def __getitem__(self, index: Any) -> torch.Tensor: ...


class StoredSlice:
    """A slice of a safetensors file that says where it is."""

    def __init__(self, weight: Any, place: StoredTensor) -> None:
        self._weight, self.place = weight, place

    def __getitem__(self, index: Any) -> torch.Tensor:
        tensor: torch.Tensor = self._weight[index]
        return tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._weight, name)


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """Stored tensors by name: how to read each, its shape, and its dtype in its format's own spelling.

    ``notes`` are sentences about the files that whoever exports them should read.
    """

    weights: Mapping[str, LazyWeight]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def renamed(self, names: Mapping[str, str]) -> StoredWeights:
        """The tensors that ``names`` lists, each under its new name."""
        return StoredWeights(
            weights={new: self.weights[old] for old, new in names.items()},
            shapes={new: self.shapes[old] for old, new in names.items()},
            dtypes={new: self.dtypes[old] for old, new in names.items()},
            notes=self.notes,
        )


@contextlib.contextmanager
def open_weights(files: list[Path], *, pickled: bool) -> Iterator[StoredWeights]:
    """Open the tensors of some files; they can be read as long as the context lasts.

    Raises:
        InputError: a file is damaged, or a pickle holds something else than tensors.
    """
    if pickled:
        loaded, notes = read_pickled_weights(files)
        yield StoredWeights(
            weights=loaded,
            shapes={name: tuple(weight.shape) for name, weight in loaded.items()},
            dtypes={name: str(weight.dtype).removeprefix("torch.") for name, weight in loaded.items()},
            notes=tuple(notes),
        )
        return
    tensors = read_tables(files)
    with _opened(tensors) as weights:
        yield StoredWeights(
            weights=weights,
            shapes={name: tensor.shape for name, tensor in tensors.items()},
            dtypes={name: tensor.dtype for name, tensor in tensors.items()},
        )


@contextlib.contextmanager
def _opened(tensors: Mapping[str, StoredTensor]) -> Iterator[dict[str, LazyWeight]]:
    """Every tensor as a slice that is read when it is indexed.

    Files of float32 are mapped: their pages become the model's weights without a copy. Others are converted as they
    are read, and pages of a mapping would only add to the memory in use.
    """
    from safetensors import SafetensorError, safe_open

    with contextlib.ExitStack() as stack:
        try:
            converted = {tensor.file for tensor in tensors.values() if tensor.dtype != "F32"}
            files = {
                file: stack.enter_context(
                    safe_open(str(file), framework="pt", device="cpu", backend="pread" if file in converted else "mmap")
                )
                for file in sorted({tensor.file for tensor in tensors.values()})
            }
        except SafetensorError as error:
            raise InputError(
                "A safetensors file is damaged",
                received=error,
                allowed="complete safetensors files",
                fix="Download the weights again.",
            ) from error
        yield {name: StoredSlice(files[tensor.file].get_slice(name), tensor) for name, tensor in tensors.items()}
