"""Runs a plan: two contexts over one set of weights, and a state whose addresses never change.

Single tokens run as a captured CUDA graph.

Written against TensorRT 11 and TensorRT-RTX 1.7 and **never run on a GPU**: the tests stand in for library and driver.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, State, TokenIds, WantedLogits
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import INPUT_IDS, LOGITS, LOGITS_POSITIONS, PAST_LENGTH, StateSpec
from jisu.runtimes.backends.element_types import storage_dtype
from jisu.runtimes.backends.row_lengths import RowLengths, check_call, check_reorder, check_rewind, check_size, closed
from jisu.runtimes.backends.state_sizes import batch_axis, state_sizes
from jisu.runtimes.backends.tensorrt.contexts import Contexts
from jisu.runtimes.backends.tensorrt.device import Device
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.plan_graph import plan_graphs
from jisu.runtimes.backends.tensorrt.profiles import DECODE, PREFILL, Shapes
from jisu.runtimes.backends.token_by_token import run_token_by_token
from jisu.runtimes.backends.token_ids import id_array

_FED = (INPUT_IDS, PAST_LENGTH, LOGITS_POSITIONS)


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """A state tensor of some rows: where its past lies and where its present is written (one place for a cache, and for
    what an encoder writes once)."""

    spec: StateSpec
    sizes: tuple[int, ...]
    places: list[int] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.sizes)) * storage_dtype(self.spec.dtype).itemsize


@dataclass(kw_only=True)
class Recording:
    """Single tokens on one state: TensorRT runs them once by itself, then they are recorded. ``graph`` is None before,
    and for good where ``possible`` says that it cannot be done."""

    graph: Any = None
    possible: bool = True


class PlanState(RowLengths):
    """A state in the GPU's memory, as long as the plan's rows.

    Args:
        room: tokens of the plan's rows.
        source: tokens of the longest text that an encoder read; None where there is none.
        copies: rows for each of these texts.
    """

    def __init__(
        self,
        device: Device,
        specs: tuple[StateSpec, ...],
        *,
        batch: int,
        capacity: int,
        room: int,
        source: int | None = None,
        copies: int = 1,
    ) -> None:
        super().__init__(batch=batch, capacity=capacity, copies=copies)
        self.batch, self._device = batch, device
        self.recurrent = any(spec.kind == "recurrent" for spec in specs)
        self.tensors = [
            _Tensor(spec=spec, sizes=state_sizes(spec, batch=batch, capacity=room, source=source)) for spec in specs
        ]
        # A recurrent tensor is read at one of two places; each way round has a recording of its own.
        self.phase = 0
        self.recorded: dict[int, Recording] = {}
        total = sum(tensor.nbytes for tensor in self.tensors)
        for tensor in self.tensors:
            for _ in range(2 if tensor.spec.kind == "recurrent" else 1):
                purpose = f"a state of {total / 1e6:.0f} MB"
                tensor.places.append(device.allocate(tensor.nbytes, purpose=purpose))
        places = [place for tensor in self.tensors for place in tensor.places]
        # An answer's state goes when nobody holds it any more; the backend lives on.
        weakref.finalize(self, _release, device, places, self.recorded)

    def swap(self) -> None:
        """Make what the last call wrote the past of the next one."""
        for tensor in self.tensors:
            tensor.places.reverse()
        if self.recurrent:
            self.phase ^= 1

    def rewind(self, lengths: TokenIds) -> None:
        lengths = np.asarray(lengths, np.int64)
        check_rewind(lengths, current=self._lengths, recurrent=self.recurrent)
        rows = np.flatnonzero(lengths < self._lengths)
        for tensor in self.tensors:
            if tensor.spec.kind == "recurrent" and len(rows):
                self._change(tensor, lambda array: _cleared(array, rows))
        self._lengths[:] = lengths

    def reorder(self, rows: TokenIds) -> None:
        rows = np.asarray(rows, np.int64)
        check_reorder(rows, batch=self.batch)
        same_sources = self.follow(rows)
        for tensor in self.tensors:
            if tensor.spec.kind != "encoder" or not same_sources:
                self._change(tensor, lambda array: np.ascontiguousarray(array[rows]))

    def _change(self, tensor: _Tensor, change: Any) -> None:
        """By way of this machine's memory, rows first; it happens between answers, not between tokens."""
        array = np.empty(tensor.sizes, storage_dtype(tensor.spec.dtype))
        self._device.read(tensor.places[0], array)
        axis = batch_axis(tensor.spec)
        changed = np.moveaxis(change(np.moveaxis(array, axis, 0)), 0, axis)
        self._device.write(tensor.places[0], np.ascontiguousarray(changed))


class PlanBackend:
    """Runs one plan.

    Args:
        plan: its bytes, see `runtimes.backends.tensorrt.plan_file.read_plan`.
        artifact: what it was built from.
        shapes: what it was built for.
        cuda: the module ``cuda.bindings.runtime``, or what stands in for it.

    Raises:
        InputError: the library cannot read the plan here, or it does not fit the GPU.
    """

    def __init__(self, library: Library, plan: bytes, artifact: Artifact, *, shapes: Shapes, cuda: Any) -> None:
        self.name = library.name
        signature = artifact.manifest.signature
        self.vocab_size = artifact.manifest.model.vocab_size
        self.max_positions: int | None = min(artifact.manifest.model.max_positions or shapes.capacity, shapes.capacity)
        self._shapes, self._signature = shapes, signature
        most = artifact.manifest.model.max_positions
        # Said to whoever asks for more tokens than fit.
        self.longer = "open a plan with a larger --capacity" if most is None or most > shapes.capacity else None
        self._device: Device | None = Device(cuda)
        self._contexts = Contexts(library, plan, plan_graphs(artifact)[0], shapes=shapes, device=self._device)
        self._fed = {
            name: self._device.allocate(8 * shapes.batch * shapes.prompt, purpose="inputs")
            for name in _FED
            if signature.has_input(name)
        }
        logits = next(spec for spec in signature.outputs if spec.name == LOGITS)
        self._dtype = storage_dtype(logits.dtype)
        size = self._dtype.itemsize * shapes.batch * self.vocab_size
        self._logits = self._device.allocate(size, purpose="logits")
        self.captured = 0

    @property
    def device(self) -> Device:
        """What it runs on; raises InputError when it is closed."""
        return self._open_device()

    def new_state(self, batch: int, capacity: int, *, source: int | None = None, copies: int = 1) -> PlanState:
        """See `exporter.contract.backend.Backend.new_state`; the rest is `PlanState`'s."""
        check_size(batch, capacity)
        if batch > self._shapes.batch or capacity > self._shapes.capacity:
            raise InputError(
                "The plan was not built for this",
                received=f"{batch} rows of {capacity} tokens",
                allowed=f"{self._shapes.batch} rows of {self._shapes.capacity} tokens",
                fix="Build another plan, with a larger --batch or --capacity, or ask for less.",
            )
        device = self._open_device()
        return PlanState(
            device,
            self._signature.state,
            batch=batch,
            capacity=capacity,
            room=self._shapes.capacity,
            source=source,
            copies=copies,
        )

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        assert isinstance(state, PlanState), "a state belongs to the backend that made it"
        self._open_device()
        token_ids = id_array(token_ids)
        past, width = state.lengths, token_ids.shape[1]
        new = check_call(token_ids, new_lengths, lengths=past, capacity=state.capacity, vocab_size=self.vocab_size)
        whole = bool((new == width).all())
        if logits == "last" and PREFILL in self._contexts.by_name and (whole or self._fits(past, width, state)):
            scores = self._in_pieces(token_ids, state, past=past, new=new)
        else:
            scores = self._token_by_token(token_ids, state, past=past, new=new, wants_all=logits == "all")
        state.advance(new)
        return scores

    def _fits(self, past: TokenIds, width: int, state: PlanState) -> bool:
        """Whether rows padded to one width go through in one call: padding stays within the cache, and ends in it."""
        room = int(past.max()) + width <= self._shapes.capacity
        return width <= self._shapes.prompt and room and not state.recurrent

    def _in_pieces(self, token_ids: TokenIds, state: PlanState, *, past: TokenIds, new: TokenIds) -> Logits:
        """As many tokens at once as the plan takes; the last piece gives the logits."""
        logits: Logits = np.zeros((0,), np.float32)
        for start in range(0, token_ids.shape[1], self._shapes.prompt):
            piece = np.ascontiguousarray(token_ids[:, start : start + self._shapes.prompt])
            last = np.minimum(new - start, piece.shape[1]) - 1
            logits = self._run(piece, state, past=past + start, positions=last)
        return logits

    def _token_by_token(
        self, token_ids: TokenIds, state: PlanState, *, past: TokenIds, new: TokenIds, wants_all: bool
    ) -> Logits:
        def step(one: TokenIds, before: TokenIds) -> Logits:
            return self._run(one, state, past=before, positions=np.zeros(len(before), np.int64))

        return run_token_by_token(
            step,
            token_ids,
            past=past,
            new=new,
            vocab_size=self.vocab_size,
            wants_all=wants_all,
            recurrent=bool(state.recurrent),
        )

    def _run(self, token_ids: TokenIds, state: PlanState, *, past: TokenIds, positions: TokenIds) -> Logits:
        device = self._open_device()
        single = token_ids.shape[1] == 1 and DECODE in self._contexts.by_name
        fed = {INPUT_IDS: token_ids, PAST_LENGTH: past, LOGITS_POSITIONS: positions[:, None]}
        inputs = {name: np.ascontiguousarray(fed[name]) for name in self._fed}
        for name, array in inputs.items():
            device.write(self._fed[name], array)
        if not single:
            self._enqueue(PREFILL, inputs, state)
        else:
            self._decode(inputs, state)
        state.swap()
        logits: npt.NDArray[Any] = np.empty((len(past), 1, self.vocab_size), self._dtype)
        device.read(self._logits, logits)
        return logits.astype(np.float32, copy=False)

    def _decode(self, inputs: dict[str, npt.NDArray[Any]], state: PlanState) -> None:
        """The first time as any call, since TensorRT prepares itself then; recorded the second time; then replayed."""
        device, context = self._open_device(), self._contexts.by_name[DECODE]
        recording = state.recorded.get(state.phase)
        if recording is None:
            state.recorded[state.phase] = Recording()
            self._enqueue(DECODE, inputs, state)
            return
        if recording.graph is None and recording.possible:
            # Another state may have had the context in between.
            self._bind(context, inputs, state)
            recording.graph = device.capture(lambda: bool(context.execute_async_v3(device.handle)))
            recording.possible = recording.graph is not None
            self.captured += recording.possible
        if recording.graph is None:
            self._enqueue(DECODE, inputs, state)
        else:
            device.launch(recording.graph)

    def _enqueue(self, name: str, inputs: dict[str, npt.NDArray[Any]], state: PlanState) -> None:
        self._bind(self._contexts.by_name[name], inputs, state)
        rows, tokens = inputs[INPUT_IDS].shape
        self._contexts.execute(name, rows=rows, tokens=tokens)

    def _bind(self, context: Any, inputs: dict[str, npt.NDArray[Any]], state: PlanState) -> None:
        for name, array in inputs.items():
            context.set_input_shape(name, array.shape)
            context.set_tensor_address(name, self._fed[name])
        for tensor in state.tensors:
            context.set_input_shape(tensor.spec.past, tensor.sizes)
            context.set_tensor_address(tensor.spec.past, tensor.places[0])
            if tensor.spec.kind != "encoder":
                context.set_tensor_address(tensor.spec.present, tensor.places[-1])
        context.set_tensor_address(LOGITS, self._logits)

    def close(self) -> None:
        if self._device is not None:
            self._contexts.close()
            self._device.close()
            self._device = None

    def leave(self) -> None:
        """Forget what is on the device, in a forked process."""
        if self._device is not None:
            self._device.leave()

    def _open_device(self) -> Device:
        if self._device is None:
            raise closed(self.name)
        return self._device


def _release(device: Device, places: list[int], recorded: dict[int, Recording]) -> None:
    for recording in recorded.values():
        device.forget(recording.graph)
    for place in places:
        device.free(place)


def _cleared(array: npt.NDArray[Any], rows: TokenIds) -> npt.NDArray[Any]:
    array[rows] = 0
    return array
