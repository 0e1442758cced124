"""A state in the memory of an NVIDIA GPU: tensors of ONNX Runtime that stay where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from jisu.exporter.contract.backend import TokenIds
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import Signature, StateSpec
from jisu.runtimes.backends.element_types import element_type, storage_dtype
from jisu.runtimes.backends.ort_cuda.session import DEVICE
from jisu.runtimes.backends.row_lengths import RowLengths, check_reorder, check_rewind
from jisu.runtimes.backends.state_sizes import batch_axis, state_sizes


def device_zeros(onnxruntime: Any, sizes: Sequence[int], dtype: str, *, purpose: str, total: int | None = None) -> Any:
    """Zeros in the GPU's memory, in the type that numpy has for them; raises InputError where there is no room.

    It says that ``total`` bytes are needed for the purpose, those of this tensor where it is the only one.

    The package hands bfloat16 neither in nor out (1.32): such a tensor holds integers of its size, and is bound by its
    address, see `bind_state`.
    """
    array = np.zeros(sizes, storage_dtype(dtype))
    try:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, DEVICE, 0)
    except Exception as error:  # the package's errors share no class of their own
        raise InputError(
            "The GPU has no room for the state",
            received=f"{(total or array.nbytes) / 1e6:.1f} MB needed for {purpose}",
            allowed="at most the GPU's free memory",
            fix="Use fewer rows or a smaller --max-new-tokens.",
        ) from error


def bind_state(bind: Any, name: str, value: Any, dtype: str) -> None:
    """Bind a state tensor as what it is to the graph, by ``bind_input`` or ``bind_output`` of a binding."""
    bind(name, DEVICE, 0, element_type(dtype), value.shape(), value.data_ptr())


class DeviceState(RowLengths):
    """A state in the GPU's memory. Caches are read and written in place; recurrent tensors change places.

    Args:
        encoded: the tensors that an encoder wrote, by name, with as many rows for each source as ``copies`` says; they
            become the state's own, and are only read.
    """

    def __init__(
        self,
        onnxruntime: Any,
        signature: Signature,
        *,
        batch: int,
        capacity: int,
        encoded: Mapping[str, Any] | None = None,
        copies: int = 1,
    ) -> None:
        super().__init__(batch=batch, capacity=capacity, copies=copies)
        self.specs, self.batch = signature.state, batch
        self._ort = onnxruntime
        encoder_tensors = encoded or {}
        self.past = [encoder_tensors[spec.past] if spec.kind == "encoder" else self._new(spec) for spec in self.specs]
        self.present = [
            self._new(spec) if spec.kind == "recurrent" else past
            for spec, past in zip(self.specs, self.past, strict=True)
        ]
        self.recurrent = any(spec.kind == "recurrent" for spec in self.specs)
        self.decode: dict[int, Any] = {}
        self.phase = 0

    def _new(self, spec: StateSpec) -> Any:
        sizes = state_sizes(spec, batch=self.batch, capacity=self.capacity)
        purpose = f"{self.batch} rows of up to {self.capacity} tokens"
        return device_zeros(self._ort, sizes, spec.dtype, purpose=purpose, total=self._bytes())

    def _bytes(self) -> int:
        """Of all tensors that are this state's own: recurrent ones there are two of."""
        return sum(
            prod(state_sizes(spec, batch=self.batch, capacity=self.capacity))
            * storage_dtype(spec.dtype).itemsize
            * (2 if spec.kind == "recurrent" else 1)
            for spec in self.specs
            if spec.kind != "encoder"
        )

    def release(self) -> None:
        self.past, self.present, self.decode = [], [], {}

    def swap(self) -> None:
        if self.recurrent:
            self.past, self.present = self.present, self.past
            self.phase ^= 1

    def rewind(self, lengths: TokenIds) -> None:
        lengths = np.asarray(lengths, np.int64)
        check_rewind(lengths, current=self._lengths, recurrent=self.recurrent)
        for spec, past in zip(self.specs, self.past, strict=True):
            rows = np.flatnonzero(lengths < self._lengths)
            if spec.kind == "recurrent" and len(rows):
                array = past.numpy()
                np.moveaxis(array, batch_axis(spec), 0)[rows] = 0
                past.update_inplace(array)
        self._lengths[:] = lengths

    def reorder(self, rows: TokenIds) -> None:
        """By way of this machine's memory: beams are rare, and the package copies no parts of a tensor."""
        rows = np.asarray(rows, np.int64)
        check_reorder(rows, batch=self.batch)
        same_sources = self.follow(rows)
        for spec, past in zip(self.specs, self.past, strict=True):
            if spec.kind == "encoder" and same_sources:
                continue
            past.update_inplace(np.ascontiguousarray(np.take(past.numpy(), rows, axis=batch_axis(spec))))
