"""A state in the memory of this machine: one numpy array per tensor, allocated once, never moved.

Key/value buffers are read and written in place. Recurrent tensors have two arrays that change places after each call,
because a graph may still read the old value when it has begun to write the new one. What an encoder wrote is only read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import State, TokenIds
from jisu.exporter.contract.signature import CAPACITY, StateSpec
from jisu.runtimes.backends.element_types import storage_dtype
from jisu.runtimes.backends.image_rows import ImageRows
from jisu.runtimes.backends.row_lengths import RowLengths, check_reorder, check_rewind, check_taken_rows
from jisu.runtimes.backends.state_sizes import batch_axis, state_sizes


class HostState(RowLengths):
    """What ``batch`` rows of at most ``capacity`` tokens have left behind.

    Args:
        encoded: the tensors that an encoder wrote, by name, with as many rows for each source as ``copies`` says; they
            become the state's own.
    """

    def __init__(
        self,
        specs: Sequence[StateSpec],
        *,
        batch: int,
        capacity: int,
        encoded: Mapping[str, npt.NDArray[Any]] | None = None,
        copies: int = 1,
    ) -> None:
        super().__init__(batch=batch, capacity=capacity, copies=copies)
        self.specs = tuple(specs)
        self.batch = batch
        encoder_tensors = encoded or {}
        self.past = [
            encoder_tensors[spec.past] if spec.kind == "encoder" else _zeros(spec, batch, capacity) for spec in specs
        ]
        self.present = [
            np.zeros_like(past) if spec.kind == "recurrent" else past
            for spec, past in zip(specs, self.past, strict=True)
        ]
        # Read by the tokens of the prompts, where a backend was given some.
        self.images: ImageRows | None = None
        self.recurrent = any(spec.kind == "recurrent" for spec in specs)
        # Bindings that a backend has prepared for this memory; 0 and 1 tell which recurrent array is read.
        self.phase = 0
        self.prepared: dict[int, Any] = {}

    def release(self) -> None:
        self.past, self.present, self.prepared = [], [], {}

    def swap(self) -> None:
        """Make what the last call wrote the past of the next one."""
        if self.recurrent:
            self.past, self.present = self.present, self.past
            self.phase ^= 1

    def rewind(self, lengths: TokenIds) -> None:
        lengths = np.asarray(lengths, np.int64)
        check_rewind(lengths, current=self._lengths, recurrent=self.recurrent)
        for spec, past in zip(self.specs, self.past, strict=True):
            if spec.kind == "recurrent":
                for row in np.flatnonzero(lengths < self._lengths):
                    row_view(spec, past, int(row))[...] = 0
        self._lengths[:] = lengths

    def reorder(self, rows: TokenIds) -> None:
        rows = np.asarray(rows, np.int64)
        check_reorder(rows, batch=self.batch)
        used = int(self._lengths.max())
        same_sources = self.follow(rows)
        if self.images is not None:
            self.images.reorder(rows)
        for spec, past in zip(self.specs, self.past, strict=True):
            if spec.kind == "encoder" and same_sources:
                continue
            written = past
            if spec.kind == "kv":  # what lies behind the longest row is not worth copying
                written = past[(slice(None),) * spec.dims.index(CAPACITY) + (slice(used),)]
            written[...] = np.take(written, rows, axis=batch_axis(spec))

    def take_rows(self, rows: TokenIds, other: State) -> None:
        assert isinstance(other, HostState), "rows come from a state of the same backend"
        assert self.images is None and other.images is None, "rows with images stay where they are"
        rows = np.asarray(rows, np.int64)
        check_taken_rows(rows, lengths=other.lengths, batch=self.batch, capacity=self.capacity)
        used = int(other.lengths.max())
        for spec, mine, theirs in zip(self.specs, self.past, other.past, strict=True):
            assert spec.kind != "encoder", "rows about other sources cannot be brought together"
            if spec.kind == "kv":
                places = (slice(None),) * spec.dims.index(CAPACITY) + (slice(used),)
                mine, theirs = mine[places], theirs[places]
            axis = batch_axis(spec)
            np.moveaxis(mine, axis, 0)[rows] = np.moveaxis(theirs, axis, 0)
        self._lengths[rows] = other.lengths


def row_view(spec: StateSpec, tensor: npt.NDArray[Any], row: int) -> npt.NDArray[Any]:
    """One row of a state tensor, with its batch axis of size 1, sharing the tensor's memory."""
    return tensor[(slice(None),) * batch_axis(spec) + (slice(row, row + 1),)]


def _zeros(spec: StateSpec, batch: int, capacity: int) -> npt.NDArray[Any]:
    return np.zeros(state_sizes(spec, batch=batch, capacity=capacity), storage_dtype(spec.dtype))
