"""ONNX Runtime on an NVIDIA GPU: state and logits stay in its memory, single tokens run as a captured CUDA graph.

Strict: a session with a node that costs anything and is not on the GPU is refused, unless it was allowed. Written
against onnxruntime-gpu 1.31; **not run on a GPU yet**: the tests stand in for the package or for CUDA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.contract.artifact import Artifact
from exporter.contract.backend import Logits, State, TokenIds, WantedLogits
from exporter.contract.errors import InputError
from exporter.contract.signature import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    LOGITS_POSITIONS,
    PAST_LENGTH,
    Signature,
    StateSpec,
)
from runtimes.backends.element_types import element_type, storage_dtype
from runtimes.backends.ort.signature import check_session
from runtimes.backends.ort_cuda.session import (
    DEVICE,
    NAME,
    PROVIDER,
    not_run,
    on_gpu,
    open_cuda_session,
)
from runtimes.backends.ort_cuda.top import DeviceTop
from runtimes.backends.row_lengths import RowLengths, States, check_call, check_reorder, check_rewind, check_size
from runtimes.backends.state_sizes import batch_axis, state_sizes
from runtimes.backends.token_by_token import run_token_by_token
from runtimes.backends.token_ids import id_array

_NO_GRAPH = -1


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
            allowed="what is free",
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
        given = encoded or {}
        self.past = [given[spec.past] if spec.kind == "encoder" else self._new(spec) for spec in self.specs]
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


class OrtCudaBackend:
    """Runs a graph that follows the signature contract on the GPU.

    Args:
        onnxruntime: the package, or what stands in for it.
        allow_cpu_nodes: let operators that cost something run on the processor.
    """

    name = NAME

    def __init__(self, onnxruntime: Any, artifact: Artifact, *, allow_cpu_nodes: bool = False) -> None:
        self._ort, self._signature = onnxruntime, artifact.manifest.signature
        self.vocab_size = artifact.manifest.model.vocab_size
        self.max_positions = artifact.manifest.model.max_positions
        # Single tokens are recorded once for each state, whose addresses they use; prompts vary in length and are not.
        session, self.placement = open_cuda_session(
            onnxruntime, artifact.graph, captures=True, allow_cpu_nodes=allow_cpu_nodes
        )
        check_session(session, self._signature, provider=PROVIDER)
        self._session: Any | None = session
        self._logits = next(spec for spec in self._signature.outputs if spec.name == LOGITS)
        self.states = States()
        self._next_graph = 1
        self._tops: dict[int, DeviceTop] = {}

    def new_state(self, batch: int, capacity: int) -> DeviceState:
        check_size(batch, capacity)
        return self.states.add(DeviceState(self._ort, self._signature, batch=batch, capacity=capacity))

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        assert isinstance(state, DeviceState), "a state belongs to the backend that made it"
        if self._session is None:
            raise InputError(f"The backend {NAME} is closed", received="a call after close", fix="Load it again.")
        token_ids = id_array(token_ids)
        past, width = state.lengths, token_ids.shape[1]
        new = check_call(token_ids, new_lengths, lengths=past, capacity=state.capacity, vocab_size=self.vocab_size)
        wants_all = logits == "all"
        if width == 1 or self._fits_one_call(past, new, width):
            call = self._decode_call(state) if width == 1 else _Call(self, state, width=width, wants_all=wants_all)
            found = call.run(token_ids, past, new)
            state.swap()
        else:
            found = self._token_by_token(token_ids, state, past=past, new=new, wants_all=wants_all)
        state.advance(new)
        return found

    def forward_top(self, token_ids: TokenIds, state: State, *, count: int) -> Logits:
        """See `exporter.contract.backend.TopBackend`."""
        assert isinstance(state, DeviceState), "a state belongs to the backend that made it"
        if self._session is None:
            raise InputError(f"The backend {NAME} is closed", received="a call after close", fix="Load it again.")
        token_ids = id_array(token_ids)
        past = state.lengths
        new = check_call(token_ids, None, lengths=past, capacity=state.capacity, vocab_size=self.vocab_size)
        call = self._decode_call(state)
        call.start(token_ids, past, new)
        found = self._top(count).of(call.logits)
        state.swap()
        state.advance(new)
        return call.fetch() if found is None else found

    def _top(self, count: int) -> DeviceTop:
        count = min(count, self.vocab_size)
        if count not in self._tops:
            self._tops[count] = DeviceTop(self._ort, dtype=self._logits.dtype, count=count, vocab_size=self.vocab_size)
        return self._tops[count]

    def _fits_one_call(self, past: TokenIds, new: TokenIds, width: int) -> bool:
        """Several tokens behind a past are taken for one row alone, and padding would run through a recurrent state."""
        if self._signature.takes_one_token:
            return False
        whole = bool((new == width).all())
        recurrent = any(spec.kind == "recurrent" for spec in self._signature.state)
        behind = ATTENTION_MASK in {spec.name for spec in self._signature.inputs} and bool(past.any())
        return (whole or not recurrent) and ((len(past) == 1 and whole) or not behind)

    def _token_by_token(
        self, token_ids: TokenIds, state: DeviceState, *, past: TokenIds, new: TokenIds, wants_all: bool
    ) -> Logits:
        def step(one: TokenIds, before: TokenIds) -> Logits:
            logits = self._decode_call(state).run(one, before, np.ones(len(before), np.int64))
            state.swap()
            return logits

        return run_token_by_token(
            step,
            token_ids,
            past=past,
            new=new,
            vocab_size=self.vocab_size,
            wants_all=wants_all,
            recurrent=bool(state.recurrent),
        )

    def _decode_call(self, state: DeviceState) -> _Call:
        if state.phase not in state.decode:
            graph = _NO_GRAPH if self.placement.unrecorded else self._next_graph
            state.decode[state.phase] = _Call(self, state, width=1, wants_all=False, span=state.capacity, graph=graph)
            self._next_graph += 1
        call: _Call = state.decode[state.phase]
        return call

    def close(self) -> None:
        self._session = None
        self._tops.clear()
        self.states.release()


class _Call:
    """A binding for calls of one shape on one state; single tokens always use the same addresses."""

    def __init__(
        self,
        backend: OrtCudaBackend,
        state: DeviceState,
        *,
        width: int,
        wants_all: bool,
        span: int | None = None,
        graph: int = _NO_GRAPH,
    ) -> None:
        ort, signature = backend._ort, backend._signature
        self._ort, self._session = ort, backend._session
        self._wants_all = wants_all
        batch = state.batch
        rows = width if wants_all else 1
        # Single tokens have one shape of mask: the whole buffer's. To the operator a prompt is one when the mask is as
        # long as it.
        self._span = span or int(state.lengths.max()) + width
        arrays: dict[str, npt.NDArray[Any]] = {
            INPUT_IDS: np.zeros((batch, width), np.int64),
            PAST_LENGTH: np.zeros(batch, np.int64),
            LOGITS_POSITIONS: np.zeros((batch, rows), np.int64),
            ATTENTION_MASK: np.zeros((batch, self._span), np.int64),
        }
        self._values = {
            name: on_gpu(ort, array, rows=batch, tokens=width)
            for name, array in arrays.items()
            if signature.has_input(name)
        }
        self._binding = backend._session.io_binding()  # type: ignore[union-attr]
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        for spec, past, present in zip(state.specs, state.past, state.present, strict=True):
            bind_state(self._binding.bind_input, spec.past, past, spec.dtype)
            if spec.kind != "encoder":
                bind_state(self._binding.bind_output, spec.present, present, spec.dtype)
        declared = backend._logits.dims[1]
        # A graph may declare one row of logits, its default, and then takes memory of ours for no other number of rows.
        self._own_logits = not isinstance(declared, int) or declared == rows
        if self._own_logits:
            logits = np.zeros((batch, rows, backend.vocab_size), storage_dtype(backend._logits.dtype))
            self.logits = on_gpu(ort, logits, rows=batch, tokens=width)
            self._binding.bind_ortvalue_output(LOGITS, self.logits)
        else:
            self._binding.bind_output(LOGITS, DEVICE)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph))

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
            self._session.run_with_iobinding(self._binding, self._options)  # type: ignore[union-attr]
        except Exception as error:  # the package's errors share no class of their own
            raise not_run(error, rows=len(past), tokens=width) from error
        if not self._own_logits:
            self.logits = self._binding.get_outputs()[-1]  # in the order of binding

    def fetch(self) -> Logits:
        found: npt.NDArray[Any] = self.logits.numpy()
        return found.astype(np.float32, copy=False)
