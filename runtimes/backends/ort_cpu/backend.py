"""ONNX Runtime on the CPU: a session, and memory bound to it once so that a decode step copies almost nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT, VISION, WIDENED_WHEN_OPENED, Artifact
from jisu.exporter.contract.backend import Backend, Logits, State, TokenIds, WantedLogits
from jisu.exporter.contract.image_prompt import ImagePrompt
from jisu.exporter.contract.signature import (
    ATTENTION_MASK,
    IMAGE_FEATURES,
    INPUT_IDS,
    LOGITS,
    LOGITS_POSITIONS,
    Signature,
)
from jisu.runtimes.backends.element_types import element_type, storage_dtype
from jisu.runtimes.backends.encoder_decoder import EncoderDecoderBackend
from jisu.runtimes.backends.forks import Reopened
from jisu.runtimes.backends.host_state import HostState, row_view
from jisu.runtimes.backends.image_rows import ImageRows
from jisu.runtimes.backends.ort.graph_interface import GraphInterface
from jisu.runtimes.backends.ort.kernels import check_kernels
from jisu.runtimes.backends.ort.session import PROVIDER, open_session
from jisu.runtimes.backends.ort.signature import check_encoder_session, check_session
from jisu.runtimes.backends.ort_cpu.call import BoundCall, StateTensors
from jisu.runtimes.backends.ort_cpu.hearing import HearingGraphs
from jisu.runtimes.backends.ort_cpu.vision import VisionGraph
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.prefix_backend import PrefixBackend
from jisu.runtimes.backends.row_lengths import States, check_call, check_size, closed
from jisu.runtimes.backends.state_sizes import state_sizes
from jisu.runtimes.backends.token_ids import id_array

# A run of one row takes at least the time of so many tokens: it reads all weights.
_TOKENS_OF_A_RUN = 16
_WORTH_RUNNING_ALONE = 1.25


def open_ort_cpu(artifact: Artifact, *, threads: int | None, source: Any, session: Reopened | None = None) -> Backend:
    """Open an artifact's graph, or its two; ``source`` is not needed.

    Args:
        session: of its graph, opened in another way; this opens it where there is none.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: the graph is damaged, keeps weights elsewhere, does not have the manifest's signature, or needs
            kernels that this CPU does not have.
    """
    check_kernels(artifact)
    if session is None:
        session = open_again(artifact.cpu_graph, threads=threads, keeps_half=keeps_half(artifact))
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
    vision, hearing, kind = None, None, artifact.manifest.model_kind
    if kind in (IMAGE_TEXT, AUDIO_TEXT):
        width = int(next(spec.dims[1] for spec in signature.inputs if spec.name == IMAGE_FEATURES))
        if kind == IMAGE_TEXT:
            vision = VisionGraph(artifact.folder / VISION, threads=threads, width=width, name=OrtCpuBackend.name)
        else:
            hearing = HearingGraphs(artifact, threads=threads, width=width, name=OrtCpuBackend.name)
    backend = OrtCpuBackend(
        session,
        signature,
        vocab_size=facts.vocab_size,
        max_positions=facts.max_positions,
        vision=vision,
        hearing=hearing,
    )
    if not signature.encoded:
        return backend
    encoder = open_again(artifact.cpu_encoder, threads=threads)
    check_encoder_session(encoder.get(), signature, provider=PROVIDER)
    encode = partial(_encode, encoder, signature, backend.states)
    return EncoderDecoderBackend(backend, encode, facts, longest=facts.max_source_positions, close=encoder.close)


def keeps_half(artifact: Artifact) -> bool:
    """Whether a graph for GPUs has more half weights than should become float32 when it is opened."""
    return artifact.cpu_graph != artifact.graph and artifact.size > WIDENED_WHEN_OPENED


def open_again(
    graph: Path,
    *,
    threads: int | None,
    profile: Path | None = None,
    unfused: Sequence[str] = (),
    keeps_half: bool = False,
) -> Reopened:
    """A session that a forked child opens for itself; for the arguments see `open_session`."""
    opens = partial(open_session, graph, threads=threads, profile=profile, unfused=unfused, keeps_half=keeps_half)
    return Reopened(opens, partial(closed, OrtCpuBackend.name))


def _run_whole(session: Reopened, token_ids: TokenIds, logits_at: TokenIds, *, positions: bool) -> Logits:
    """Logits after some tokens of whole sequences; see `runtimes.backends.prefix_backend.Run`."""
    feeds = {INPUT_IDS: token_ids, **({LOGITS_POSITIONS: logits_at} if positions else {})}
    logits: npt.NDArray[Any] = session.get().run([LOGITS], feeds)[0]
    if not positions:
        logits = np.take_along_axis(logits, logits_at[:, :, None], axis=1)
    return logits.astype(np.float32, copy=False)


class OrtCpuBackend:
    """Runs a graph that follows the signature contract.

    A graph with ``attention_mask`` takes several new tokens on top of a past for one row at a time only (its attention
    operator refuses a batch there); such calls are made row by row on views of the same memory. A graph with
    ``past_length`` takes any batch.

    Args:
        opened: the session, which is closed with this.
        vision, hearing: of a model that reads images, or recordings; they are closed with this, too.
    """

    name = "ort-cpu"

    def __init__(
        self,
        opened: Reopened,
        signature: Signature,
        *,
        vocab_size: int,
        max_positions: int | None,
        vision: VisionGraph | None = None,
        hearing: HearingGraphs | None = None,
    ) -> None:
        session = opened.get()
        check_session(session, signature, provider=PROVIDER)
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        self._opened = opened
        self._vision, self._hearing = vision, hearing
        self.states = States()
        self._specs = signature.state
        self._graph = GraphInterface.of_session(session, signature, vocab_size=vocab_size, max_positions=max_positions)

    def new_state(self, batch: int, capacity: int) -> HostState:
        check_size(batch, capacity)
        self._opened.get()  # a closed one has no states any more
        with catch_out_of_memory(rows=batch, tokens=capacity):
            return self.states.add(HostState(self._specs, batch=batch, capacity=capacity))

    def read_image(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """See `exporter.contract.image_prompt.ImageBackend`."""
        assert self._vision is not None, "the caller knows the kind of the model"
        return self._vision.run(inputs)

    def recording_features(self, blocks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `exporter.contract.image_prompt.RecordingBackend`."""
        assert self._hearing is not None, "the caller knows the kind of the model"
        return self._hearing.features(blocks)

    def read_recording(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """See `exporter.contract.image_prompt.RecordingBackend`."""
        assert self._hearing is not None, "the caller knows the kind of the model"
        return self._hearing.rows(inputs)

    def attach_images(self, state: State, prompts: Sequence[ImagePrompt]) -> None:
        """See `exporter.contract.image_prompt.ImageBackend`."""
        assert isinstance(state, HostState), "a state belongs to the backend that made it"
        state.images = ImageRows(prompts)

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        assert isinstance(state, HostState), "a state belongs to the backend that made it"
        session = self._opened.get()
        token_ids = id_array(token_ids)
        past = state.lengths
        new = check_call(token_ids, new_lengths, lengths=past, capacity=state.capacity, vocab_size=self.vocab_size)
        if state.images is not None:
            state.images.check_whole(past, new)
        with catch_out_of_memory(rows=len(past), tokens=int((past + new).max())):
            scores = self._run(session, token_ids, state, past=past, new=new, logits=logits)
        state.advance(new)
        return scores if scores.dtype == np.float32 else scores.astype(np.float32)

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
            scores = self._decode(session, token_ids, state, past)
        elif self._graph.signature.takes_one_token:
            scores = self._token_by_token(session, token_ids, state, past=past, new=new, logits=logits)
        elif self._fits_one_call(past, new, width, state.capacity):
            scores = self._bound(session, state, width=width, wants_all=logits == "all").run(token_ids, past, new)
            state.swap()
        else:
            scores = self._row_by_row(session, token_ids, state, new, logits)
        return scores

    def rest(self) -> None:
        """Give the session's memory back; the next call opens it again."""
        self._opened.leave()

    def close(self) -> None:
        self._opened.close()
        for graphs in (self._vision, self._hearing):
            if graphs is not None:
                graphs.close()
        self.states.release()

    def _fits_one_call(self, past: TokenIds, new: TokenIds, width: int, capacity: int) -> bool:
        if (new == width).all():
            return len(past) == 1 or ATTENTION_MASK not in self._graph.inputs or not past.any()
        if len(new) * width > _WORTH_RUNNING_ALONE * int(np.maximum(new, _TOKENS_OF_A_RUN).sum()):
            return False  # one long row among short ones: most of the work would be padding
        # Padding would run through a recurrent state, may reach behind the buffer's end, and behind a past the mask
        # tells a row's length no more.
        fits = not self._graph.is_recurrent and int(past.max()) + width <= capacity
        return fits and (ATTENTION_MASK not in self._graph.inputs or not past.any())

    def _bound(self, session: Any, state: HostState, *, width: int, wants_all: bool) -> BoundCall:
        """A call of all rows of a state."""
        tensors = StateTensors(
            past=state.past, present=state.present, batch=state.batch, capacity=state.capacity, images=state.images
        )
        return BoundCall(session, self._graph, tensors, width=width, wants_all=wants_all)

    def _row(
        self, past: list[npt.NDArray[Any]], present: list[npt.NDArray[Any]], state: HostState, row: int
    ) -> StateTensors:
        """Tensors of one row of a state."""
        images = None if state.images is None else state.images.row(row)
        return StateTensors(past=past, present=present, batch=1, capacity=state.capacity, images=images)

    def _decode(self, session: Any, token_ids: TokenIds, state: HostState, past: TokenIds) -> npt.NDArray[Any]:
        call = state.prepared.get(state.phase)
        if call is None or call.session is not session:
            call = state.prepared[state.phase] = self._bound(session, state, width=1, wants_all=False)
        scores: npt.NDArray[Any] = call.run(token_ids, past, np.ones(len(past), np.int64))
        state.swap()
        return scores

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
        scores = np.zeros((batch, width if logits == "all" else 1, self.vocab_size), np.dtype(self._graph.logits_dtype))
        shortest = int(new.min())
        for place in range(shortest):
            out = self._decode(session, np.ascontiguousarray(token_ids[:, place : place + 1]), state, past + place)
            if logits == "all" or place == shortest - 1:
                scores[:, place if logits == "all" else 0] = out[:, 0]
        for row in np.flatnonzero(new > shortest).tolist():
            tensors = [
                [
                    np.ascontiguousarray(row_view(spec, tensor, row))
                    for spec, tensor in zip(self._specs, side, strict=True)
                ]
                for side in (state.past, state.present)
            ]
            calls = [
                BoundCall(session, self._graph, self._row(past_row, present_row, state, row), width=1, wants_all=False)
                for past_row, present_row in (tensors, tensors[::-1])
            ]
            for step, place in enumerate(range(shortest, int(new[row]))):
                out = calls[step % 2].run(
                    np.ascontiguousarray(token_ids[row : row + 1, place : place + 1]),
                    past[row : row + 1] + place,
                    np.ones(1, np.int64),
                )
                scores[row, place if logits == "all" else 0] = out[0, 0]
            # What was written last lies in the one or the other, by how many steps there were.
            written = tensors[(int(new[row]) - shortest) % 2]
            for spec, past_tensor, result in zip(self._specs, state.past, written, strict=True):
                view = row_view(spec, past_tensor, row)
                if not np.shares_memory(view, result):
                    view[...] = result
        return scores

    def _row_by_row(
        self, session: Any, token_ids: TokenIds, state: HostState, new: TokenIds, logits: WantedLogits
    ) -> npt.NDArray[Any]:
        batch, width = token_ids.shape
        rows = width if logits == "all" else 1
        scores = np.zeros((batch, rows, self.vocab_size), np.dtype(self._graph.logits_dtype))
        past_lengths = state.lengths
        for row in range(batch):
            count = int(new[row])
            pasts = [row_view(spec, past, row) for spec, past in zip(self._specs, state.past, strict=True)]
            presents = [row_view(spec, present, row) for spec, present in zip(self._specs, state.present, strict=True)]
            # A row of a tensor whose batch axis is not the first is scattered in memory: it is gathered and put back.
            read = [np.ascontiguousarray(past) for past in pasts]
            written = [
                np.empty(inner.shape, inner.dtype) if spec.kind == "recurrent" else inner
                for spec, inner in zip(self._specs, read, strict=True)
            ]
            tensors = self._row(read, written, state, row)
            call = BoundCall(session, self._graph, tensors, width=count, wants_all=logits == "all")
            out = call.run(
                np.ascontiguousarray(token_ids[row : row + 1, :count]), past_lengths[row : row + 1], new[row : row + 1]
            )
            scores[row, : out.shape[1]] = out[0]
            for spec, present, result in zip(self._specs, presents, written, strict=True):
                if spec.kind != "encoder" and not np.shares_memory(present, result):
                    present[...] = result
        state.swap()
        return scores


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
    with catch_out_of_memory(rows=rows * copies, tokens=capacity + tokens):
        session = opened.get()
        binding = session.io_binding()
        for name, array in ((INPUT_IDS, ids), (ATTENTION_MASK, mask)):
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        # By address, since the runtime hands no bfloat16 over as an array.
        written = {}
        for spec in signature.encoded:
            sizes = state_sizes(spec, batch=rows, capacity=capacity, source=tokens)
            written[spec.past] = buffer = np.empty(sizes, storage_dtype(spec.dtype))
            binding.bind_output(spec.present, "cpu", 0, element_type(spec.dtype), sizes, buffer.ctypes.data)
        session.run_with_iobinding(binding)
        if copies > 1:
            written = {name: np.repeat(buffer, copies, axis=0) for name, buffer in written.items()}
        state = HostState(signature.state, batch=rows * copies, capacity=capacity, encoded=written, copies=copies)
        return states.add(state)
