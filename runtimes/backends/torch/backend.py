"""The source module itself as a backend: the reference that the others are compared with."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.contract.artifact import Artifact, ModelFacts
from jisu.exporter.contract.backend import Backend, Logits, State, TokenIds, WantedLogits
from jisu.exporter.contract.signature import CAPACITY
from jisu.runtimes.backends.encoder_decoder import EncoderDecoderBackend
from jisu.runtimes.backends.forks import run_in_children
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.prefix_backend import PrefixBackend
from jisu.runtimes.backends.row_lengths import (
    RowLengths,
    States,
    check_call,
    check_reorder,
    check_rewind,
    check_size,
    check_taken_rows,
    closed,
)
from jisu.runtimes.backends.token_ids import id_array
from jisu.runtimes.machine.threads import usable_threads

if TYPE_CHECKING:
    import torch

# A function (artifact, source) -> module with the traced interface; only the exporter knows how to read checkpoints.
REFERENCE_OPENER = "jisu.exporter.verification:open_torch_module"


def open_torch(artifact: Artifact, *, threads: int | None, source: Any) -> Backend:
    """Open the checkpoint, or the module, that an artifact was made from.

    Args:
        source: None takes the one that its manifest names.

    Raises:
        ImportError: torch or what reads the checkpoint is not installed.
        InputError: the checkpoint is not found or is not the artifact's.
    """
    module_name, _, function = REFERENCE_OPENER.partition(":")
    import torch

    open_module = getattr(importlib.import_module(module_name), function)
    run_in_children(compute_alone)
    torch.set_num_threads(threads or min(torch.get_num_threads(), usable_threads()))
    facts = artifact.manifest.model
    module = open_module(artifact, source)
    if not artifact.manifest.signature.state:
        run = partial(_run_whole, module.eval())
        return PrefixBackend(TorchBackend.name, run, vocab_size=facts.vocab_size, max_positions=facts.max_positions)
    backend = TorchBackend(
        module,
        vocab_size=facts.vocab_size,
        max_positions=facts.max_positions,
        one_token=artifact.manifest.signature.takes_one_token,
    )
    return with_encoder(backend, module, facts) if artifact.manifest.signature.encoded else backend


def compute_alone() -> None:
    """Use one thread from now on: in a forked child OpenMP would wait for threads that are the parent's."""
    import torch

    torch.set_num_threads(1)


def _run_whole(module: torch.nn.Module, token_ids: TokenIds, positions: TokenIds) -> Logits:
    """Logits after some tokens of whole sequences; see `runtimes.backends.prefix_backend.Run`."""
    import torch

    with torch.inference_mode():
        output = module(torch.from_numpy(token_ids))
        logits: Logits = getattr(output, "logits", output).float().numpy()
    return np.take_along_axis(logits, positions[:, :, None], axis=1)


class TorchState(RowLengths):
    """The module's own state tensors and the lengths of their rows.

    Args:
        encoded: the tensors of kind ``encoder``, in the order of ``specs``.
    """

    def __init__(
        self,
        specs: Sequence[tuple[str, str, Sequence[Any], Any]],
        *,
        batch: int,
        capacity: int,
        encoded: Sequence[torch.Tensor] = (),
    ) -> None:
        import torch

        super().__init__(batch=batch, capacity=capacity)
        encoder_tensors = iter(encoded)
        self.kinds = [kind for _, kind, _, _ in specs]
        self.axes = [list(dims).index("B") for _, _, dims, _ in specs]
        self._capacity_axes = [list(dims).index(CAPACITY) if CAPACITY in dims else None for _, _, dims, _ in specs]
        self.recurrent = "recurrent" in self.kinds
        sizes: dict[Any, int] = {"B": batch, CAPACITY: capacity}
        self.tensors = [
            next(encoder_tensors)
            if kind == "encoder"
            else torch.zeros([sizes.get(dim, dim) for dim in dims], dtype=_torch_dtype(dtype))
            for _, kind, dims, dtype in specs
        ]

    def release(self) -> None:
        self.tensors = []

    def rewind(self, lengths: TokenIds) -> None:
        lengths = np.asarray(lengths, np.int64)
        check_rewind(lengths, current=self._lengths, recurrent=self.recurrent)
        for kind, axis, tensor in zip(self.kinds, self.axes, self.tensors, strict=True):
            if kind == "recurrent":
                for row in np.flatnonzero(lengths < self._lengths):
                    tensor.narrow(axis, int(row), 1).zero_()
        self._lengths[:] = lengths

    def reorder(self, rows: TokenIds) -> None:
        import torch

        rows = np.asarray(rows, np.int64)
        check_reorder(rows, batch=len(self._lengths))
        index = torch.from_numpy(rows)
        self.tensors = [tensor.index_select(axis, index) for axis, tensor in zip(self.axes, self.tensors, strict=True)]
        self._lengths[:] = self._lengths[rows]

    def take_rows(self, rows: TokenIds, other: State) -> None:
        import torch

        assert isinstance(other, TorchState), "rows come from a state of the same backend"
        rows = np.asarray(rows, np.int64)
        check_taken_rows(rows, lengths=other.lengths, batch=len(self._lengths), capacity=self.capacity)
        used = int(other.lengths.max())
        with torch.inference_mode():
            for kind, axis, place, mine, theirs in zip(
                self.kinds, self.axes, self._capacity_axes, self.tensors, other.tensors, strict=True
            ):
                assert kind != "encoder", "rows about other sources cannot be brought together"
                part, source = (mine, theirs) if place is None else (t.narrow(place, 0, used) for t in (mine, theirs))
                part.index_copy_(axis, torch.from_numpy(rows), source)
        self._lengths[rows] = other.lengths


class TorchBackend:
    """Runs a module with the traced interface on the CPU.

    Args:
        module: ``forward(input_ids [B, T], past_length [B], state) -> (logits [B, T, V], state)`` and ``state_spec()``.
        one_token: the module is right for T = 1 only, and is called as often as there are tokens.
    """

    name = "torch"

    def __init__(
        self, module: torch.nn.Module, *, vocab_size: int, max_positions: int | None, one_token: bool = False
    ) -> None:
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        self._one_token = one_token
        self.states = States()
        self._module: torch.nn.Module | None = module.eval()
        self._specs: list[tuple[str, str, Sequence[Any], Any]] = list(module.state_spec())  # type: ignore[operator]

    def new_state(self, batch: int, capacity: int) -> TorchState:
        check_size(batch, capacity)
        with catch_out_of_memory(rows=batch, tokens=capacity):
            return self.states.add(TorchState(self._specs, batch=batch, capacity=capacity))

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        import torch

        assert isinstance(state, TorchState), "a state belongs to the backend that made it"
        token_ids = id_array(token_ids)
        past = state.lengths
        new = check_call(token_ids, new_lengths, lengths=past, capacity=state.capacity, vocab_size=self.vocab_size)
        width = token_ids.shape[1]
        padded = not bool((new == width).all())
        # A padded row may reach behind the buffer's end, and padding would run through a recurrent state.
        alone = padded and (state.recurrent or int(past.max()) + width > state.capacity)
        with catch_out_of_memory(rows=len(past), tokens=int((past + new).max())), torch.inference_mode():
            ids, seen = torch.from_numpy(token_ids), torch.from_numpy(past)
            if not alone:
                out, written = self._call(ids, seen, state.tensors)
                # What an encoder wrote comes last, and is not given back.
                state.tensors = [*written, *state.tensors[len(written) :]]
            else:
                out = torch.zeros((len(past), width, self.vocab_size))
                for row, count in enumerate(new.tolist()):
                    parts = [t.narrow(axis, row, 1) for axis, t in zip(state.axes, state.tensors, strict=True)]
                    scores, written = self._call(ids[row : row + 1, :count], seen[row : row + 1], parts)
                    out[row, :count] = scores[0]
                    for part, result in zip(parts, written, strict=False):
                        if part.data_ptr() != result.data_ptr():
                            part.copy_(result)
            state.advance(new)
            if logits == "last":
                out = out[torch.arange(len(past)), torch.from_numpy(new) - 1][:, None]
            result_array: Logits = out.float().contiguous().numpy()
        return result_array

    def close(self) -> None:
        self._module = None
        self.states.release()

    def _call(
        self, ids: torch.Tensor, past: torch.Tensor, state: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        if self._module is None:
            raise closed(self.name)
        import torch

        if not self._one_token:
            logits, written = self._module(ids, past, state)
            return logits, list(written)
        pieces = []
        for place in range(ids.shape[1]):
            logits, state = self._module(ids[:, place : place + 1], past + place, state)
            pieces.append(logits)
        return torch.cat(pieces, 1), list(state)


def with_encoder(decoder: TorchBackend, module: torch.nn.Module, facts: ModelFacts) -> EncoderDecoderBackend:
    """A module that has ``encode`` besides the interface of `TorchBackend`."""
    return EncoderDecoderBackend(
        decoder, partial(_encode, module, decoder.states), facts, longest=facts.max_source_positions
    )


def _encode(module: Any, states: States, ids: TokenIds, mask: TokenIds, *, capacity: int, copies: int) -> TorchState:
    """Run a module's ``encode(input_ids, attention_mask) -> list of state tensors``; for the rest see `Encode`."""
    import torch

    rows = len(ids) * copies
    with catch_out_of_memory(rows=rows, tokens=capacity + ids.shape[1]), torch.inference_mode():
        tensors = module.encode(torch.from_numpy(ids), torch.from_numpy(mask))
        encoded = [tensor.repeat_interleave(copies, 0) for tensor in tensors]
        return states.add(TorchState(module.state_spec(), batch=rows, capacity=capacity, encoded=encoded))


def _torch_dtype(dtype: Any) -> Any:
    """state_spec gives torch dtypes or their names."""
    import torch

    return getattr(torch, dtype) if isinstance(dtype, str) else dtype
