"""Whether positions far from the first one are right: one long text, and places over the whole range with a made past.

A text is the truth itself but costs what it is long. Behind it every place costs one short call: source and candidate
are given the same keys and values, however they came to be, and have to continue from them alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.signature import CAPACITY, STATE_PREFIXES, StateSpec
from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.equal_scores import lowest_index_first
from jisu.exporter.gate.exam import SEGMENT_BYTES, Exam
from jisu.exporter.gate.prompts import FAR_STEPS
from jisu.exporter.gate.result import Check

if TYPE_CHECKING:
    from jisu.exporter.contract.backend import Logits, State
    from jisu.exporter.contract.signature import Signature

FAR, LONG_CALL, RANGE = "far-positions", "long-call", "whole-range"
# As runtimes read prompts, at most: an attention's scores take memory with the square of a call's tokens.
_LARGEST_CHUNK, _CHUNK = 1024, 256
# First and last tokens of a long call that are asked in a short one, too.
_REPEATED = 48
# New tokens at each place of the range: the call's own tokens see each other, too.
_NEW = 3
_PLACES = 12  # spread over the range, besides those that have a reason
_MOST_PLACES = 40
# Bytes of one made past; a model whose range needs more is asked as far as they reach. Less than of all together, so
# that edges of windows are asked besides.
PAST_BYTES = 384 << 20
_COPIED_BYTES = 448 << 20  # of all made pasts together
_FILLED = 48  # tokens whose keys and values are repeated over the past
# What keys at the edges of windows are multiplied with: one of them seen or not seen then changes every logit.
_LOUD = 24.0
# Positions from where on half precision leaves numbers out, and where a range that has no limit is asked last.
_DIGITS, UNLIMITED = (257, 2048, 32768), 1 << 14
# Behind it, angles of float32 are so large that kernels compute their cosines differently: 0.004 sd at position 2**20.
_FARTHEST = 1 << 18
_FLOATS = ("float16", "bfloat16", "float32")


def check_far(exam: Exam, sequence: TokenIds, own: Exam | None = None) -> list[Check]:
    """A long text in chunks, then its last tokens one by one, compared at every position that memory has room for.

    Args:
        own: judges the candidate by itself: what its longest call says of its first and last tokens has to be what
            short calls say. None where the comparison with the source is strict, or where nothing can be taken back.
    """
    vocab_size, past = exam.backend.vocab_size, len(sequence) - FAR_STEPS
    step = max(1, -(-4 * vocab_size * len(sequence) // SEGMENT_BYTES))
    compared = np.arange((len(sequence) - 1) % step, len(sequence), step)  # the last one is among them
    for one in (exam, own):
        if one is not None:
            one.rest()  # the source's logits of a long text are large
    truth = exam.truth.reference.logits(sequence, slice(int(compared[0]), len(sequence), step))
    state = exam.backend.new_state(1, len(sequence))
    errors = np.zeros(len(compared))
    more: list[Check] = []
    for start, stop in _far_bounds(past, len(sequence), vocab_size):
        whole = 4 * vocab_size * (stop - start) <= 4 * SEGMENT_BYTES
        tokens = sequence[None, start:stop]
        repeated = own is not None and stop - start > max(_CHUNK, 2 * _REPEATED)
        first = _first_of_call(exam, state, tokens, start) if repeated and whole else None
        logits = exam.backend.forward(tokens, state, logits="all" if whole else "last")[0]
        rows = np.flatnonzero((compared >= start if whole else compared == stop - 1) & (compared < stop))
        if len(rows):
            label = f"a long text, positions {start}..{stop - 1}"
            chosen = logits[compared[rows] - start] if whole else logits
            errors[rows] = exam.distances(truth[rows], chosen, start=start, label=label)
        if own is not None and repeated:
            more.append(_check_long_call(own, state, tokens, start, first, logits))
    exam.rest()  # no later call is as long
    where = exam.first_wrong(errors)
    passed = exam.passes(errors)
    detail = f"{len(compared)} of {len(sequence)} positions of one text, the last {FAR_STEPS} tokens one by one."
    if not passed and where is not None:
        detail = (
            f"Position {compared[where]} differs, by {errors[where]:.3g} {exam.unit}. If shorter prompts are right, "
            "positions are computed with too few digits, a table of them is wrong or ends too early, or a window is."
        )
    value = exam.value(errors)
    return [Check(name=FAR, passed=passed, value=value, limit=exam.limit, unit=exam.unit, detail=detail), *more]


def _first_of_call(exam: Exam, state: State, tokens: TokenIds, start: int) -> Logits:
    """What a short call says of the first tokens of a long one, which is still to come."""
    if start == 0:
        state = exam.backend.new_state(1, _REPEATED)
    logits: Logits = exam.backend.forward(tokens[:, :_REPEATED], state, logits="all")[0].copy()
    if start:
        state.rewind(np.array([start], np.int64))
    return logits


def _check_long_call(
    own: Exam, state: State, tokens: TokenIds, start: int, first: Logits | None, logits: Logits
) -> Check:
    """The first and last tokens of a call again in short calls; the state is afterwards as it was."""
    stop = start + tokens.shape[1]
    shown = min(len(logits), _REPEATED)
    # What is compared of a call that may have half a gigabyte of logits, before the next call overwrites them.
    beginning, end = logits[:_REPEATED].copy(), logits[-shown:].copy()
    state.rewind(np.array([stop - _REPEATED], np.int64))
    last = own.backend.forward(tokens[:, -_REPEATED:], state, logits="all")[0]
    label = f"a call of {tokens.shape[1]} tokens"
    errors = [own.distances(last[-shown:], end, start=stop - shown, label=label)]
    if first is not None:
        errors.append(own.distances(first, beginning[: len(first)], start=start, label=label))
    joined = np.concatenate(errors)
    value, passed = own.value(joined), own.passes(joined)
    detail = f"Positions {start} to {stop - 1} in one call and {len(joined)} of them in short ones."
    if not passed:
        detail = f"{detail} They differ by {value:.3g} {own.unit}: how many tokens a call has changes what it says."
    return Check(name=LONG_CALL, passed=passed, value=value, limit=own.limit, unit=own.unit, detail=detail)


def _far_bounds(past: int, end: int, vocab_size: int) -> list[tuple[int, int]]:
    """Chunks of moderate size, a last one as large as a runtime makes, and single tokens."""
    large = past - min(_LARGEST_CHUNK, past)
    chunk = max(1, min(_CHUNK, SEGMENT_BYTES // (4 * vocab_size)))
    bounds = [(start, min(start + chunk, large)) for start in range(0, large, chunk)]
    bounds.append((large, past))
    return bounds + [(position, position + 1) for position in range(past, end)]


@dataclass(frozen=True, kw_only=True)
class Range:
    """The places of a model's range that are asked.

    Attributes:
        module: the source with the traced interface.
        state: the candidate's state tensors, which have the source's names in the same order.
        one_token: the module takes one new token a call.
        places: lengths of the past, ascending.
        windows: how many tokens some layers see at most, by which the edges are known.
    """

    module: Any
    state: tuple[StateSpec, ...]
    one_token: bool
    places: tuple[int, ...]
    windows: tuple[int, ...]


def choose_range(
    module: Any,
    signature: Signature,
    *,
    max_positions: int | None,
    windows: tuple[int, ...],
    switches: tuple[int, ...],
) -> Range | None:
    """Choose the places; None where the state does not grow, or is not the source's tensor by tensor.

    Args:
        module: the source with the traced interface.
        signature: the candidate's.
        windows: tokens that layers see at most.
        switches: positions from which on the source computes angles otherwise.
    """
    spec = getattr(module, "state_spec", None)
    growing = [item for item in signature.state if CAPACITY in item.dims]
    names = [] if spec is None else [STATE_PREFIXES[kind][0] + name for name, kind, *_ in spec()]
    if not growing or names != [item.past for item in signature.state]:
        return None
    token = sum(
        prod(dim for dim in item.dims if isinstance(dim, int)) * 4
        for item in growing  # float32 at the source
    )
    end = min(max_positions or UNLIMITED, _FARTHEST, PAST_BYTES // token) - _NEW
    spread = {end // 2, *(end * number // _PLACES for number in range(1, _PLACES))}
    points = {end, *spread}
    for edge in (*windows, *switches, *_DIGITS):
        points |= {edge - _NEW + 1, edge + 1, 2 * edge - 1}
    # Every place costs a copy of its past: the last one and the edges come first, and as many others as are cheap.
    possible = [place for place in points if 0 < place <= end]
    spent = 0
    places: list[int] = []
    for place in sorted(possible, key=lambda place: (place != end, place in spread, place)):
        spent += place * token
        if places and spent > _COPIED_BYTES:
            break
        places.append(place)
    places.sort()
    if not places:
        return None
    kept = {places[number * (len(places) - 1) // max(1, _MOST_PLACES - 1)] for number in range(_MOST_PLACES)}
    return Range(
        module=module,
        state=signature.state,
        one_token=signature.takes_one_token,
        places=tuple(places if len(places) <= _MOST_PLACES else sorted(kept)),
        windows=windows,
    )


def check_range(exam: Exam, span: Range) -> Check:
    """A few tokens behind a made past of each length: the same keys and values for the source and the candidate."""
    longest = max(span.places) + _NEW
    exam.rest()  # the source is called next, and the candidate may still hold what its longest call took
    made = _MadePast(exam, span, longest)
    tokens = np.resize(exam.prompts.sequence, made.filled + _NEW)[None, made.filled :]
    # All of the candidate first, whose weights are then not in memory beside those of the source's layers. A token that
    # it does not write into a shared buffer is not there; what it leaves behind its tokens is undone for the source.
    answers = []
    for place in span.places:
        made.make(place)
        answers.append(made.candidate_logits(tokens, place).copy())
    exam.rest()
    distances = []
    for place, candidate in zip(span.places, answers, strict=True):
        made.make(place)
        truth = made.source_logits(tokens, place)
        distances.append(exam.distances(truth, candidate, start=place, label=f"position {place} after a made past"))
    errors = np.concatenate(distances)
    first = exam.first_wrong(errors)
    passed = exam.passes(errors)
    detail = f"{_NEW} tokens at each of {len(span.places)} places up to position {longest - 1}."
    if not passed and first is not None:
        place = span.places[first // _NEW]
        detail = (
            f"Position {place + first % _NEW} differs from the source's with the same keys and values before it, "
            f"by {errors[first]:.3g} {exam.unit}: positions, a mask or a window are at fault."
        )
    value = exam.value(errors)
    return Check(name=RANGE, passed=passed, value=value, limit=exam.limit, unit=exam.unit, detail=detail)


class _MadePast:
    """Keys and values of a few tokens, repeated over a long past, in the source's memory and in the candidate's.

    A float32 buffer that the candidate reads and writes in place is the source's as well: there is one of it.
    """

    def __init__(self, exam: Exam, span: Range, longest: int) -> None:
        import torch

        self._exam, self._span = exam, span
        self.filled = min(_FILLED, len(exam.prompts.sequence), longest)
        tokens = np.ascontiguousarray(exam.prompts.sequence[None, : self.filled])
        # Rows of a text that is being decoded; `place` says how many of them hold something.
        self._ours = cast("Any", exam.backend.new_state(1, longest))
        self._shared = [
            spec.dtype == "float32" and past is present
            for spec, past, present in zip(span.state, self._ours.past, self._ours.present, strict=True)
        ]
        empty = [
            torch.from_numpy(past) if shared else torch.zeros(past.shape, dtype=_source_type(spec))
            for spec, past, shared in zip(span.state, self._ours.past, self._shared, strict=True)
        ]
        few = [
            tensor if axis is None else tensor.narrow(axis, 0, self.filled).clone()
            for tensor, axis in zip(empty, self._axes, strict=True)
        ]
        _, few = self._call(tokens, 0, few)
        self._few = [_rounded(tensor, spec.dtype) for tensor, spec in zip(few, span.state, strict=True)]
        self._theirs = empty
        self._write(np.arange(longest), np.ones(longest, np.float32))
        self._changed: npt.NDArray[np.int64] = np.empty(0, np.int64)

    @property
    def _axes(self) -> list[int | None]:
        return [spec.dims.index(CAPACITY) if CAPACITY in spec.dims else None for spec in self._span.state]

    def make(self, place: int) -> None:
        """Undo what the last place changed, and mark the edges of windows before this one."""
        quiet = np.ones(len(self._changed), np.float32)
        self._write(self._changed, quiet)
        loud = {0, place - 1}
        for window in self._span.windows:
            loud |= set(range(place - window - 1, place - window + _NEW + 1))
            loud |= {place // window * window - 1, place // window * window}
        edges = np.array(sorted(index for index in loud if 0 <= index < place), np.int64)
        self._write(edges, np.full(len(edges), _LOUD, np.float32))
        self._changed = np.concatenate([edges, np.arange(place, place + _NEW)])
        self._give(place)
        self._ours.place(np.array([place], np.int64))

    def _give(self, place: int) -> None:
        """The source's rows for the candidate, all of them: a call may leave anything behind the tokens that it wrote.

        Graphs whose keys and values are cast on the way write whole buffers, of which only the rows in use hold
        something (the CPU graph of ort-cuda with float16, ONNX Runtime 1.32).
        """
        places = zip(self._span.state, self._axes, self._theirs, self._ours.past, self._shared, strict=True)
        for spec, axis, theirs, ours, shared in places:
            if axis is not None and not shared:
                ours[(slice(None),) * axis + (slice(place),)] = _stored(theirs.narrow(axis, 0, place), spec.dtype)

    def source_logits(self, tokens: TokenIds, place: int) -> npt.NDArray[np.float32]:
        end = place + tokens.shape[1]  # what lies behind is not looked at, and costs copies
        state = [
            tensor if axis is None else tensor.narrow(axis, 0, end)
            for tensor, axis in zip(self._theirs, self._axes, strict=True)
        ]
        logits, _ = self._call(tokens, place, state)
        array: npt.NDArray[np.float32] = logits[0].float().numpy()
        return array

    def candidate_logits(self, tokens: TokenIds, place: int) -> npt.NDArray[np.float32]:
        logits = self._exam.backend.forward(tokens, self._ours, logits="all")
        array: npt.NDArray[np.float32] = logits[0]
        return array

    def _call(self, tokens: TokenIds, past: int, state: list[Any]) -> tuple[Any, list[Any]]:
        import torch

        with torch.inference_mode(), lowest_index_first(self._span.module):
            ids, start = torch.from_numpy(np.ascontiguousarray(tokens)), torch.tensor([past])
            if not self._span.one_token:
                logits, written = self._span.module(ids, start, state)
                return logits, list(written)
            pieces = []
            for index in range(ids.shape[1]):
                logits, state = self._span.module(ids[:, index : index + 1], start + index, state)
                pieces.append(logits)
            return torch.cat(pieces, 1), list(state)

    def _write(self, indices: npt.NDArray[np.int64], factors: npt.NDArray[np.float32]) -> None:
        """Keys and values at some places, values multiplied; a state of fixed size as it was after the first tokens."""
        import torch

        where, by = torch.from_numpy(indices), torch.from_numpy(factors)
        for number, (spec, axis) in enumerate(zip(self._span.state, self._axes, strict=True)):
            few = self._few[number]
            if axis is None:
                self._theirs[number].copy_(few)
                if not self._shared[number]:
                    self._ours.past[number][...] = _stored(few, spec.dtype)
                continue
            rows = few.index_select(axis, where % self.filled)
            if not spec.past.endswith(".key"):
                rows = rows * by.reshape([-1 if index == axis else 1 for index in range(rows.dim())])
            rows = _rounded(rows, spec.dtype)
            self._theirs[number].index_copy_(axis, where, rows.to(self._theirs[number].dtype))
            if self._shared[number]:
                continue
            ours = self._ours.past[number]
            ours[(slice(None),) * axis + (indices,)] = _stored(rows, spec.dtype)


def _source_type(spec: StateSpec) -> Any:
    """The element type of the source's tensor: float32 where the candidate keeps a float of fewer bits."""
    import torch

    return torch.float32 if spec.dtype in _FLOATS else getattr(torch, spec.dtype)


def _rounded(tensor: Any, dtype: str) -> Any:
    """What a state of an element type keeps of a tensor."""
    import torch

    return tensor.to(getattr(torch, dtype)).to(tensor.dtype)


def _stored(tensor: Any, dtype: str) -> npt.NDArray[Any]:
    """The same as it lies in a state's memory."""
    import torch

    kept = tensor.to(getattr(torch, dtype))
    stored: npt.NDArray[Any] = kept.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else kept.numpy()
    return stored
