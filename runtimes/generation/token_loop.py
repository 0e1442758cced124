"""The generate loop, the only one: token ids in, token ids out. It knows no tokenizer, no text and no device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import Backend, Logits, RefillableState, State, TokenIds, TopBackend
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import prompt_name
from jisu.runtimes import generation
from jisu.runtimes.generation.sampling import RowSampler, TokenLogprobs, token_logprobs
from jisu.runtimes.generation.stopping import Stopping

Turn = AbstractContextManager[object]
# Beyond so many, picking the largest logits on a device costs more than fetching all of them.
FEW = 64


@dataclass(frozen=True, kw_only=True)
class SampledToken:
    """A new token of one row; ``ends`` tells that it is an end token, which has no text."""

    row: int
    token: int
    ends: bool
    logprobs: TokenLogprobs | None


def generate_tokens(
    backend: Backend,
    state: State,
    prompts: Sequence[Sequence[int]],
    *,
    samplers: Sequence[RowSampler],
    stopping: Stopping,
    logprobs: int | None = None,
    turns: Turn | None = None,
    joining: dict[int, Sequence[int]] | None = None,
) -> Iterator[list[SampledToken]]:
    """Yield, step by step, one new token for each row that has not ended.

    Between two steps the caller may end rows with ``stopping.finish``, or give the place of an ended one to another
    prompt: with ``stopping.begin``, a sampler of its own, and the prompt in ``joining``. An ended row is no longer
    sampled; its state is emptied, so that it costs next to nothing in the rows' common calls.

    Args:
        state: what it already holds of each row must be a beginning of that row's prompt, and shorter than it.
        prompts: token ids of each row, from its first token on.
        samplers: one for each row.
        logprobs: how many alternatives to record with each token; None records nothing.
        turns: entered for each call of the backend, where several threads share it.
        joining: prompts that begin at the places of ended rows; it is emptied when they have been read. The next step
            gives their first tokens alone. Only for a `RefillableState`.

    Raises:
        InputError: an empty prompt, or logits from which no token can be chosen.
    """
    run_step = backend.forward if logprobs is not None else _step_of(backend, samplers)
    turn = turns or nullcontext()
    logits = prefill(backend, state, prompts, turns=turn)
    fed = np.zeros((len(prompts), 1), np.int64)
    rows = places = stopping.active  # whose turn it is, and where their logits are
    step = 0
    while True:
        sampled = []
        for row, place in zip(rows, places, strict=True):
            token = samplers[row].choose(logits[place, 0], step=step)
            record = None if logprobs is None else token_logprobs(logits[place, 0], token, top=logprobs)
            sampled.append(SampledToken(row=row, token=token, ends=stopping.observe(row, token), logprobs=record))
            fed[row, 0] = token
        yield sampled
        step += 1
        if joining:
            rows, places = list(joining), list(range(len(joining)))
            logits = _join(backend, state, joining, turn=turn)
            joining.clear()
            continue
        rows = places = stopping.active
        if not rows:
            return
        with turn:
            if len(rows) < len(prompts):
                lengths = np.zeros(len(prompts), np.int64)
                lengths[rows] = state.lengths[rows]
                state.rewind(lengths)
            logits = run_step(fed, state)


def _join(backend: Backend, state: State, joining: Mapping[int, Sequence[int]], *, turn: Turn) -> Logits:
    """Read prompts apart, since not every backend takes several new tokens behind the past of other rows, and put them
    at their places in the state; returns float32 [prompts, 1, V]."""
    assert isinstance(state, RefillableState), "the caller asks whether rows can join"
    prompts = list(joining.values())
    with turn:
        part = backend.new_state(len(prompts), max(len(prompt) for prompt in prompts))
    logits = prefill(backend, part, prompts, turns=turn)
    with turn:
        state.take_rows(np.array(list(joining), np.int64), part)
    return logits


def _step_of(backend: Backend, samplers: Sequence[RowSampler]) -> Callable[[TokenIds, State], Logits]:
    """What runs one step: a call that fetches a few logits of each row, where these samplers choose by no more."""
    needs = [sampler.needs for sampler in samplers]
    few = None if None in needs else max((need or 0 for need in needs), default=None)
    if few is None or few > FEW or not isinstance(backend, TopBackend):
        return backend.forward
    return partial(backend.forward_top, count=few)


def prefill(backend: Backend, state: State, prompts: Sequence[Sequence[int]], *, turns: Turn | None = None) -> Logits:
    """Run what the state does not yet hold of each prompt; returns float32 [B, 1, V].

    Args:
        turns: entered for each call of the backend.
    """
    turn = turns or nullcontext()
    rests = [np.asarray(prompt[held:], np.int64) for prompt, held in zip(prompts, state.lengths, strict=True)]
    lengths = np.array([len(rest) for rest in rests], np.int64)
    if (lengths < 1).any():
        raise InputError(
            f"{prompt_name(int(np.argmin(lengths)), len(prompts))} has no tokens",
            received="an empty prompt",
            allowed="at least one token",
            fix="Write something to continue.",
        )
    # A recurrent state does not go back, so that rows which are through could not wait for the others; nor is it what
    # takes the memory that pieces save.
    unequal = len(set(lengths.tolist())) > 1
    piece = int(lengths.max()) if unequal and getattr(state, "recurrent", False) else generation.PREFILL_CHUNK
    last: Logits | None = None
    for start in range(0, int(lengths.max()), piece):
        with turn:
            logits = _read_piece(backend, state, rests, start=start, stop=start + piece)
        if int(lengths.max()) <= piece:
            return logits
        if last is None:
            last = np.empty_like(logits)
        ends = (start < lengths) & (lengths <= start + piece)
        last[ends] = logits[ends]
    assert last is not None
    return last


def _read_piece(
    backend: Backend, state: State, rests: Sequence[npt.NDArray[np.int64]], *, start: int, stop: int
) -> Logits:
    """Run the tokens of all rows from ``start`` on; a row that has ended before reads its last one again."""
    pieces = [rest[start:stop] if len(rest) > start else rest[-1:] for rest in rests]
    again = np.array([len(rest) <= start for rest in rests])
    if again.any():
        state.rewind(state.lengths - again)
    lengths = np.array([len(tokens) for tokens in pieces], np.int64)
    tokens = np.zeros((len(pieces), int(lengths.max())), np.int64)
    for row, part in enumerate(pieces):
        tokens[row, : len(part)] = part
    return backend.forward(tokens, state, new_lengths=None if len(pieces) == 1 else lengths)
