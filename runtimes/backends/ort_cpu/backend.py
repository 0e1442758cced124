"""ONNX Runtime on the processor: a session, and memory bound to it once so that a decode step copies almost nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.contract.artifact import Artifact
from exporter.contract.backend import Backend, Logits, State, TokenIds, WantedLogits
from exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, LOGITS, LOGITS_POSITIONS, PAST_LENGTH, Signature
from runtimes.backends.element_types import element_type, storage_dtype
from runtimes.backends.encoder_decoder import EncoderDecoderBackend
from runtimes.backends.forks import Reopened
from runtimes.backends.host_state import HostState, row_view
from runtimes.backends.ort.kernels import check_kernels
from runtimes.backends.ort.session import PROVIDER, open_session
from runtimes.backends.ort.signature import check_encoder_session, check_session
from runtimes.backends.out_of_memory import told_memory
from runtimes.backends.prefix_backend import PrefixBackend
from runtimes.backends.row_lengths import States, check_call, check_size, closed
from runtimes.backends.state_sizes import state_sizes
from runtimes.backends.token_ids import id_array

_FED = (INPUT_IDS, ATTENTION_MASK, PAST_LENGTH, LOGITS_POSITIONS)
# A run of one row takes at least the time of so many tokens: it reads all weights.
_TOKENS_OF_A_RUN = 16
_WORTH_RUNNING_ALONE = 1.25
# A mask of one step is bound with room for so many more: binding another takes ten times longer than writing into it.
_MASK_ROOM = 64


def open_ort_cpu(artifact: Artifact, *, threads: int | None, source: Any) -> Backend:
    """Open an artifact's graph, or its two; ``source`` is not needed.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: the graph is damaged, keeps weights elsewhere, does not have the manifest's signature, or needs
            kernels that this CPU does not have.
    """
    check_kernels(artifact)
    session = open_again(artifact.cpu_graph, threads=threads)
    facts, signature = artifact.manifest.model, artifact.manifest.signature
    if not signature.state:
        check_session(session.get(), signature, provider=PROVIDER)
        run = partial(_run_whole, session, positions=signature.has_input(LOGITS_POSITIONS))
        return PrefixBackend(
            OrtCpuBackend.name,
            run,
            vocab_size=facts.vocab_size,
            max_positions=facts.max_positions,
            close=session.close,
        )
    backend = OrtCpuBackend(session, signature, vocab_size=facts.vocab_size, max_positions=facts.max_positions)
    if not signature.encoded:
        return backend
    encoder = open_again(artifact.cpu_encoder, threads=threads)
    check_encoder_session(encoder.get(), signature, provider=PROVIDER)
    encode = partial(_encode, encoder, signature, backend.states)
    return EncoderDecoderBackend(backend, encode, facts, longest=facts.max_source_positions, close=encoder.close)


def open_again(graph: Path, *, threads: int | None, profile: Path | None = None) -> Reopened:
    """A session that a forked child opens for itself; for the arguments see `open_session`."""
    opens = partial(open_session, graph, threads=threads, profile=profile)
    return Reopened(opens, partial(closed, OrtCpuBackend.name))


def _run_whole(session: Reopened, token_ids: TokenIds, wanted: TokenIds, *, positions: bool) -> Logits:
    """Logits after some tokens of whole sequences; see `runtimes.backends.prefix_backend.Run`."""
    feeds = {INPUT_IDS: token_ids, **({LOGITS_POSITIONS: wanted} if positions else {})}
    logits: npt.NDArray[Any] = session.get().run([LOGITS], feeds)[0]
    if not positions:
        logits = np.take_along_axis(logits, wanted[:, :, None], axis=1)
    return logits.astype(np.float32, copy=False)


class OrtCpuBackend:
    """Runs a graph that follows the signature contract.

    A graph with ``attention_mask`` takes several new tokens on top of a past for one row at a time only (its attention
    operator refuses a batch there); such calls are made row by row on views of the same memory. A graph with
    ``past_length`` takes any batch.

    Args:
        opened: the session, which is closed with this.
    """

    name = "ort-cpu"

    def __init__(self, opened: Reopened, signature: Signature, *, vocab_size: int, max_positions: int | None) -> None:
        session = opened.get()
        check_session(session, signature, provider=PROVIDER)
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        self._opened = opened
        self.states = States()
        self._specs = signature.state
        self._inputs = frozenset(name for name in _FED if signature.has_input(name))
        self._recurrent = any(spec.kind == "recurrent" for spec in signature.state)
        # Those that have no default are given at every call.
        self._needs_positions = LOGITS_POSITIONS in {item.name for item in session.get_inputs()}
        self._one_token = signature.takes_one_token
        logits = next(spec for spec in signature.outputs if spec.name == LOGITS)
        self._logits_dtype = np.dtype(logits.dtype)
        self._declared_rows = logits.dims[1] if isinstance(logits.dims[1], int) else None

    def new_state(self, batch: int, capacity: int) -> HostState:
        check_size(batch, capacity)
        self._opened.get()  # a closed one has no states any more
        with told_memory(rows=batch, tokens=capacity):
            return self.states.add(HostState(self._specs, batch=batch, capacity=capacity))

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        assert isinstance(state, HostState), "a state belongs to the backend that made it"
        session = self._opened.get()
        token_ids = id_array(token_ids)
        past = state.lengths
        new = check_call(token_ids, new_lengths, lengths=past, capacity=state.capacity, vocab_size=self.vocab_size)
        with told_memory(rows=len(past), tokens=int((past + new).max())):
            found = self._run(session, token_ids, state, past=past, new=new, logits=logits)
        state.advance(new)
        return found if found.dtype == np.float32 else found.astype(np.float32)

    def _run(
        self,
        session: Any,
        token_ids: TokenIds,
        state: HostState,
        *,
        past: TokenIds,
        new: TokenIds,
        logits: WantedLogits,
    ) -> npt.NDArray[Any]:
        width = token_ids.shape[1]
        if width == 1:
            found = self._decode(session, token_ids, state, past)
        elif self._one_token:
            found = self._token_by_token(session, token_ids, state, past=past, new=new, logits=logits)
        elif self._fits_one_call(past, new, width, state.capacity):
            found = self._bound(session, state, width=width, logits=logits).run(token_ids, past, new)
            state.swap()
        else:
            found = self._row_by_row(session, token_ids, state, new, logits)
        return found

    def close(self) -> None:
        self._opened.close()
        self.states.release()

    def _fits_one_call(self, past: TokenIds, new: TokenIds, width: int, capacity: int) -> bool:
        if (new == width).all():
            return len(past) == 1 or ATTENTION_MASK not in self._inputs or not past.any()
        if len(new) * width > _WORTH_RUNNING_ALONE * int(np.maximum(new, _TOKENS_OF_A_RUN).sum()):
            return False  # one long row among short ones: most of the work would be padding
        # Padding would run through a recurrent state, may reach behind the buffer's end, and behind a past the mask
        # tells a row's length no more.
        fits = not self._recurrent and int(past.max()) + width <= capacity
        return fits and (ATTENTION_MASK not in self._inputs or not past.any())

    def _bound(self, session: Any, state: HostState, *, width: int, logits: WantedLogits) -> _Call:
        """A call of all rows of a state."""
        return _Call(
            self,
            session,
            state.past,
            state.present,
            capacity=state.capacity,
            batch=state.batch,
            width=width,
            logits=logits,
        )

    def _decode(self, session: Any, token_ids: TokenIds, state: HostState, past: TokenIds) -> npt.NDArray[Any]:
        call = state.prepared.get(state.phase)
        if call is None or call.session is not session:
            call = state.prepared[state.phase] = self._bound(session, state, width=1, logits="last")
        found: npt.NDArray[Any] = call.run(token_ids, past, np.ones(len(past), np.int64))
        state.swap()
        return found

    def _token_by_token(
        self,
        session: Any,
        token_ids: TokenIds,
        state: HostState,
        *,
        past: TokenIds,
        new: TokenIds,
        logits: WantedLogits,
    ) -> npt.NDArray[Any]:
        """All rows together as far as the shortest goes; then each longer one by itself, since padding would count."""
        batch, width = token_ids.shape
        found = np.zeros((batch, width if logits == "all" else 1, self.vocab_size), self._logits_dtype)
        shortest = int(new.min())
        for place in range(shortest):
            out = self._decode(session, np.ascontiguousarray(token_ids[:, place : place + 1]), state, past + place)
            if logits == "all" or place == shortest - 1:
                found[:, place if logits == "all" else 0] = out[:, 0]
        for row in np.flatnonzero(new > shortest).tolist():
            tensors = [
                [
                    np.ascontiguousarray(row_view(spec, tensor, row))
                    for spec, tensor in zip(self._specs, side, strict=True)
                ]
                for side in (state.past, state.present)
            ]
            calls = [
                _Call(self, session, given, taken, capacity=state.capacity, batch=1, width=1, logits="last")
                for given, taken in (tensors, tensors[::-1])
            ]
            for step, place in enumerate(range(shortest, int(new[row]))):
                out = calls[step % 2].run(
                    np.ascontiguousarray(token_ids[row : row + 1, place : place + 1]),
                    past[row : row + 1] + place,
                    np.ones(1, np.int64),
                )
                found[row, place if logits == "all" else 0] = out[0, 0]
            # What was written last lies in the one or the other, by how many steps there were.
            written = tensors[(int(new[row]) - shortest) % 2]
            for spec, past_tensor, result in zip(self._specs, state.past, written, strict=True):
                view = row_view(spec, past_tensor, row)
                if not np.shares_memory(view, result):
                    view[...] = result
        return found

    def _row_by_row(
        self, session: Any, token_ids: TokenIds, state: HostState, new: TokenIds, logits: WantedLogits
    ) -> npt.NDArray[Any]:
        batch, width = token_ids.shape
        rows = width if logits == "all" else 1
        found = np.zeros((batch, rows, self.vocab_size), self._logits_dtype)
        past_lengths = state.lengths
        for row in range(batch):
            count = int(new[row])
            pasts = [row_view(spec, past, row) for spec, past in zip(self._specs, state.past, strict=True)]
            presents = [row_view(spec, present, row) for spec, present in zip(self._specs, state.present, strict=True)]
            # A row of a tensor whose batch axis is not the first is scattered in memory: it is gathered and put back.
            given = [np.ascontiguousarray(past) for past in pasts]
            taken = [
                np.empty(inner.shape, inner.dtype) if spec.kind == "recurrent" else inner
                for spec, inner in zip(self._specs, given, strict=True)
            ]
            call = _Call(self, session, given, taken, capacity=state.capacity, batch=1, width=count, logits=logits)
            out = call.run(
                np.ascontiguousarray(token_ids[row : row + 1, :count]), past_lengths[row : row + 1], new[row : row + 1]
            )
            found[row, : out.shape[1]] = out[0]
            for spec, present, result in zip(self._specs, presents, taken, strict=True):
                if spec.kind != "encoder" and not np.shares_memory(present, result):
                    present[...] = result
        state.swap()
        return found


def _encode(
    opened: Reopened,
    signature: Signature,
    states: States,
    ids: TokenIds,
    mask: TokenIds,
    *,
    capacity: int,
    copies: int,
) -> HostState:
    """Run an encoder's graph; arguments behind the third as `runtimes.backends.encoder_decoder.Encode` has them."""
    rows, tokens = ids.shape
    with told_memory(rows=rows * copies, tokens=capacity + tokens):
        session = opened.get()
        binding = session.io_binding()
        for name, array in ((INPUT_IDS, ids), (ATTENTION_MASK, mask)):
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        # By address, since the runtime hands no bfloat16 over as an array.
        written = {}
        for spec in signature.encoded:
            sizes = state_sizes(spec, batch=rows, capacity=capacity, source=tokens)
            written[spec.past] = found = np.empty(sizes, storage_dtype(spec.dtype))
            binding.bind_output(spec.present, "cpu", 0, element_type(spec.dtype), sizes, found.ctypes.data)
        session.run_with_iobinding(binding)
        if copies > 1:
            written = {name: np.repeat(found, copies, axis=0) for name, found in written.items()}
        state = HostState(signature.state, batch=rows * copies, capacity=capacity, encoded=written, copies=copies)
        return states.add(state)


class _Call:
    """A binding for calls of one shape on one set of state tensors; the arrays it points to live as long as it does."""

    def __init__(
        self,
        backend: OrtCpuBackend,
        session: Any,
        pasts: list[npt.NDArray[Any]],
        presents: list[npt.NDArray[Any]],
        *,
        capacity: int,
        batch: int,
        width: int,
        logits: WantedLogits,
    ) -> None:
        self.session = session
        self._inputs = backend._inputs
        self._wants_all = logits == "all"
        self._state = (pasts, presents)
        self._binding = session.io_binding()
        for spec, past, present in zip(backend._specs, pasts, presents, strict=True):
            self._bind(spec.past, past, spec.dtype)
            if spec.kind == "encoder":
                continue
            kind = element_type(spec.dtype)
            self._binding.bind_output(spec.present, "cpu", 0, kind, present.shape, present.ctypes.data)
        self._ids = np.zeros((batch, width), np.int64)
        self._bind(INPUT_IDS, self._ids)
        if PAST_LENGTH in self._inputs:
            self._past_length = np.zeros(batch, np.int64)
            self._bind(PAST_LENGTH, self._past_length)
        if ATTENTION_MASK in self._inputs:
            self._mask = np.zeros((batch, 0), np.int64)
            self._longest_mask = min(capacity, backend.max_positions or capacity)
        # Outputs come in the order of their binding.
        self._logits_index = sum(spec.kind != "encoder" for spec in backend._specs)
        rows = width
        self._positions: npt.NDArray[np.int64] | None = None
        if LOGITS_POSITIONS in self._inputs:
            # Always given for more than one token: a graph with past_length cannot know where a padded row ends.
            rows = width if self._wants_all else 1
            if width > 1 or backend._needs_positions:
                several = batch if backend._needs_positions or not self._wants_all else 1
                self._positions = np.zeros((several, rows), np.int64)
                self._bind(LOGITS_POSITIONS, self._positions)
        # A graph may declare one row of logits, its default, and then takes memory of ours for no other number of rows.
        self._logits: npt.NDArray[Any] | None = None
        if backend._declared_rows in (None, rows):
            self._logits = logits_of = np.zeros((batch, rows, backend.vocab_size), backend._logits_dtype)
            self._binding.bind_output(LOGITS, "cpu", 0, logits_of.dtype, logits_of.shape, logits_of.ctypes.data)
        else:
            self._binding.bind_output(LOGITS, "cpu")

    def run(self, token_ids: TokenIds, past: TokenIds, new: TokenIds) -> npt.NDArray[Any]:
        """Run once; all int64: token_ids [B, T], past [B], new [B]. Returns [B, 1 or T, V], overwritten by the next."""
        width = token_ids.shape[1]
        self._ids[...] = token_ids
        if PAST_LENGTH in self._inputs:
            self._past_length[...] = past
        if ATTENTION_MASK in self._inputs:
            self._bind_mask(past + new, width)
        if self._positions is not None:
            self._positions[...] = np.arange(width) if self._wants_all else new[:, None] - 1
        self.session.run_with_iobinding(self._binding)
        found = self._logits
        if found is None:
            # The state's tensors are bound too: the one that was not given memory is the one to ask for.
            found = self._binding.get_outputs()[self._logits_index].numpy()
        if self._wants_all or found.shape[1] == 1:
            return found
        return np.take_along_axis(found, new[:, None, None] - 1, axis=1)

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
