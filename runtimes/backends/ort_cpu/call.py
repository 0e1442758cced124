"""Calls of one shape on one set of state tensors, bound once so that a decode step copies almost nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import TokenIds
from jisu.exporter.contract.signature import (
    ATTENTION_MASK,
    IMAGE_FEATURES,
    IMAGE_INDEX,
    IMAGE_SHIFTS,
    INPUT_IDS,
    LOGITS,
    LOGITS_POSITIONS,
    PAST_LENGTH,
    TOKEN_TYPES,
)
from jisu.runtimes.backends.element_types import element_type
from jisu.runtimes.backends.image_rows import AXES, ImageRows
from jisu.runtimes.backends.ort.graph_interface import GraphInterface

# A mask of one step is bound with room for so many more: binding another takes ten times longer than writing into it.
_MASK_ROOM = 64


@dataclass(frozen=True, kw_only=True)
class StateTensors:
    """The memory that a call reads and writes: for each state tensor of the signature one array, or one for each."""

    past: list[npt.NDArray[Any]]
    present: list[npt.NDArray[Any]]
    batch: int
    capacity: int
    images: ImageRows | None = None


class BoundCall:
    """A binding for calls of one shape; the arrays it points to live as long as it does.

    Args:
        width: new tokens of each row.
        wants_all: logits of all of them, instead of each row's last.
    """

    def __init__(
        self, session: Any, graph: GraphInterface, tensors: StateTensors, *, width: int, wants_all: bool
    ) -> None:
        self.session = session
        self._graph = graph
        self._tensors = tensors
        self._wants_all = wants_all
        self._binding = session.io_binding()
        batch = tensors.batch
        self._bind_state()
        self._ids = np.zeros((batch, width), np.int64)
        self._bind(INPUT_IDS, self._ids)
        if PAST_LENGTH in graph.inputs:
            self._past_length = np.zeros(batch, np.int64)
            self._bind(PAST_LENGTH, self._past_length)
        self._bind_images(tensors.images, width)
        if ATTENTION_MASK in graph.inputs:
            self._mask = np.zeros((batch, 0), np.int64)
            self._longest_mask = min(tensors.capacity, graph.max_positions or tensors.capacity)
        rows = width
        self._positions: npt.NDArray[np.int64] | None = None
        if LOGITS_POSITIONS in graph.inputs:
            # Always given for more than one token: a graph with past_length cannot know where a padded row ends.
            rows = width if wants_all else 1
            if width > 1 or graph.needs_positions:
                several = batch if graph.needs_positions or not wants_all else 1
                self._positions = np.zeros((several, rows), np.int64)
                self._bind(LOGITS_POSITIONS, self._positions)
        self._logits = self._bind_logits(rows)

    def run(self, token_ids: TokenIds, past: TokenIds, new: TokenIds) -> npt.NDArray[Any]:
        """Run once; all int64: token_ids [B, T], past [B], new [B]. Returns [B, 1 or T, V], overwritten by the next."""
        width = token_ids.shape[1]
        self._ids[...] = token_ids
        if PAST_LENGTH in self._graph.inputs:
            self._past_length[...] = past
        if (images := self._tensors.images) is not None:
            self._image_index[...] = images.index_at(past, width)
            if self._image_shifts is not None:
                self._image_shifts[...] = images.shifts_at(past, width)
            if self._token_types is not None:
                self._token_types[...] = images.types_of(self._tensors.capacity)
        if ATTENTION_MASK in self._graph.inputs:
            self._bind_mask(past + new, width)
        if self._positions is not None:
            self._positions[...] = np.arange(width) if self._wants_all else new[:, None] - 1
        self.session.run_with_iobinding(self._binding)
        logits = self._logits
        if logits is None:
            # Outputs come in the order of their binding, the state's first.
            logits = self._binding.get_outputs()[len(self._graph.signature.written)].numpy()
        if self._wants_all or logits.shape[1] == 1:
            return logits
        return np.take_along_axis(logits, new[:, None, None] - 1, axis=1)

    def _bind_state(self) -> None:
        tensors = self._tensors
        for spec, past, present in zip(self._graph.state, tensors.past, tensors.present, strict=True):
            self._bind(spec.past, past, spec.dtype)
            if spec.kind != "encoder":
                kind = element_type(spec.dtype)
                self._binding.bind_output(spec.present, "cpu", 0, kind, present.shape, present.ctypes.data)

    def _bind_images(self, images: ImageRows | None, width: int) -> None:
        """Memory for what the tokens read of images; without any the graph has its defaults."""
        if images is None:
            return
        batch = self._tensors.batch
        self._image_index = np.zeros((batch, width), np.int64)
        self._bind(IMAGE_FEATURES, images.features)
        self._bind(IMAGE_INDEX, self._image_index)
        self._image_shifts: npt.NDArray[np.int64] | None = None
        if self._graph.signature.has_input(IMAGE_SHIFTS):
            self._image_shifts = np.zeros((AXES, batch, width), np.int64)
            self._bind(IMAGE_SHIFTS, self._image_shifts)
        self._token_types: npt.NDArray[np.int64] | None = None
        if self._graph.signature.has_input(TOKEN_TYPES):
            self._token_types = np.zeros((batch, self._tensors.capacity), np.int64)
            self._bind(TOKEN_TYPES, self._token_types)

    def _bind_logits(self, rows: int) -> npt.NDArray[Any] | None:
        """Memory for the logits; None where the runtime has to bring its own."""
        if not self._graph.takes_memory_for(rows):
            self._binding.bind_output(LOGITS, "cpu")
            return None
        logits = np.zeros((self._tensors.batch, rows, self._graph.vocab_size), np.dtype(self._graph.logits_dtype))
        self._binding.bind_output(LOGITS, "cpu", 0, logits.dtype, logits.shape, logits.ctypes.data)
        return logits

    def _bind_mask(self, totals: TokenIds, width: int) -> None:
        longest = max(int(totals.max()), width)
        if width == 1:
            # A row may have fewer tokens than the mask has places; of several new tokens, though, the attention takes
            # those that fill all places for the first ones of their rows.
            longest = max(longest, min(-(-longest // _MASK_ROOM) * _MASK_ROOM, self._longest_mask))
        if self._mask.shape[1] != longest:
            self._mask = np.zeros((len(totals), longest), np.int64)
            self._places = np.arange(longest)
            self._bind(ATTENTION_MASK, self._mask)
        np.less(self._places, totals[:, None], out=self._mask)

    def _bind(self, name: str, array: npt.NDArray[Any], dtype: str | None = None) -> None:
        kind = array.dtype if dtype is None else element_type(dtype)
        self._binding.bind_input(name, "cpu", 0, kind, array.shape, array.ctypes.data)
