"""Calls of one shape on one state in a GPU's memory; single tokens always use the same addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, LOGITS, LOGITS_POSITIONS, PAST_LENGTH
from jisu.runtimes.backends.element_types import storage_dtype
from jisu.runtimes.backends.ort.graph_interface import GraphInterface
from jisu.runtimes.backends.ort_cuda.device_state import DeviceState, bind_state
from jisu.runtimes.backends.ort_cuda.session import DEVICE, not_run, on_gpu

NOT_RECORDED = -1


@dataclass(frozen=True, kw_only=True)
class DeviceGraph:
    """An opened graph: the package, or what stands in for it, its session, and what goes in and out."""

    onnxruntime: Any
    session: Any
    interface: GraphInterface


class DeviceCall:
    """A binding for calls of one shape.

    Args:
        width: new tokens of each row.
        wants_all: logits of all of them, instead of each row's last.
        recording: the number under which the package records the call as a CUDA graph.
    """

    def __init__(
        self, graph: DeviceGraph, state: DeviceState, *, width: int, wants_all: bool, recording: int = NOT_RECORDED
    ) -> None:
        ort, interface = graph.onnxruntime, graph.interface
        self._session = graph.session
        self._wants_all = wants_all
        batch = state.batch
        rows = width if wants_all else 1
        # Single tokens have one shape of mask: the whole buffer's. To the operator a prompt is one when the mask is as
        # long as it.
        self._span = state.capacity if width == 1 else int(state.lengths.max()) + width
        arrays: dict[str, npt.NDArray[Any]] = {
            INPUT_IDS: np.zeros((batch, width), np.int64),
            PAST_LENGTH: np.zeros(batch, np.int64),
            LOGITS_POSITIONS: np.zeros((batch, rows), np.int64),
            ATTENTION_MASK: np.zeros((batch, self._span), np.int64),
        }
        self._values = {
            name: on_gpu(ort, array, rows=batch, tokens=width)
            for name, array in arrays.items()
            if name in interface.inputs
        }
        self._binding = graph.session.io_binding()
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        for spec, past, present in zip(state.specs, state.past, state.present, strict=True):
            bind_state(self._binding.bind_input, spec.past, past, spec.dtype)
            if spec.kind != "encoder":
                bind_state(self._binding.bind_output, spec.present, present, spec.dtype)
        self._own_logits = interface.takes_memory_for(rows)
        if self._own_logits:
            logits = np.zeros((batch, rows, interface.vocab_size), storage_dtype(interface.logits_dtype))
            self.logits = on_gpu(ort, logits, rows=batch, tokens=width)
            self._binding.bind_ortvalue_output(LOGITS, self.logits)
        else:
            self._binding.bind_output(LOGITS, DEVICE)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(recording))

    def run(self, token_ids: TokenIds, past: TokenIds, new: TokenIds) -> Logits:
        """Run once; all int64: token_ids [B, T], past [B], new [B]. Returns float32 [B, 1 or T, V]."""
        self.start(token_ids, past, new)
        return self.fetch()

    def start(self, token_ids: TokenIds, past: TokenIds, new: TokenIds) -> None:
        """The same, leaving the logits on the GPU."""
        width = token_ids.shape[1]
        positions = np.arange(width)[None].repeat(len(past), 0) if self._wants_all else new[:, None] - 1
        seen = (np.arange(self._span) < (past + new)[:, None]).astype(np.int64)
        fed = {INPUT_IDS: token_ids, PAST_LENGTH: past, LOGITS_POSITIONS: positions, ATTENTION_MASK: seen}
        for name, value in self._values.items():
            value.update_inplace(np.ascontiguousarray(fed[name]))
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # the package's errors share no class of their own
            raise not_run(error, rows=len(past), tokens=width) from error
        if not self._own_logits:
            self.logits = self._binding.get_outputs()[-1]  # in the order of binding

    def fetch(self) -> Logits:
        logits: npt.NDArray[Any] = self.logits.numpy()
        return logits.astype(np.float32, copy=False)
