"""Sequences whose first token chooses a source: both sides are told of it alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jisu.exporter.gate.conditioned import ConditionedBackend, condition, started
from jisu.exporter.gate.prompts import gate_prompts

SOURCES = [np.array([5, 6, 7]), np.array([8])]


class Recorder:
    """An `EncoderBackend` that remembers what it was asked."""

    name = "recorder"
    vocab_size = 9
    max_positions = None
    max_source_positions = None

    def __init__(self) -> None:
        self.encoded: list[list[int]] = []
        self.fed: list[list[list[int]]] = []

    def encode(self, sources: Any, *, capacity: int, copies: int = 1) -> Any:
        from jisu.runtimes.backends.row_lengths import RowLengths

        self.encoded = sources

        class State(RowLengths):
            def rewind(self, lengths: Any) -> None:
                self._lengths[:] = lengths

        return State(batch=len(sources), capacity=capacity)

    def forward(self, token_ids: Any, state: Any, *, new_lengths: Any = None, logits: str = "last") -> Any:
        self.fed.append(token_ids.tolist())
        state.advance(np.full(len(token_ids), token_ids.shape[1]))
        return np.zeros((len(token_ids), 1, self.vocab_size), np.float32)


def test_the_first_token_chooses_a_source_and_becomes_the_start() -> None:
    inner: Any = Recorder()
    backend = ConditionedBackend(inner, SOURCES, start=4)
    state = backend.new_state(2, 8)
    assert state.lengths.tolist() == [0, 0]
    backend.forward(np.array([[1, 3, 3], [0, 2, 2]]), state)
    backend.forward(np.array([[1], [0]]), state)
    assert inner.encoded == [[8], [5, 6, 7]]
    assert inner.fed == [[[4, 3, 3], [4, 2, 2]], [[1], [0]]], "later tokens are tokens"
    assert state.lengths.tolist() == [4, 4]
    state.rewind(np.array([2, 1]))
    assert state.lengths.tolist() == [2, 1]


def test_what_is_fed_is_no_longer_the_plans_own_memory() -> None:
    tokens = np.array([[1, 3]])
    assert started(tokens, 4).tolist() == [[4, 3]]
    assert tokens.tolist() == [[1, 3]]


@pytest.mark.parametrize("positions", [None, 40, 8])
def test_every_sequence_names_a_source_there_is(positions: int | None) -> None:
    prompts, sources = condition(gate_prompts(None, 50, positions))
    named = [
        prompts.sequence,
        *prompts.rows,
        *prompts.greedy,
        *prompts.judged.windows,
        *(one for _, one in prompts.further),
    ]
    assert all(0 <= int(sequence[0]) < len(sources) for sequence in named)
    lengths = [len(source) for source in sources]
    assert max(lengths) <= (positions or 300)
    # rows of one batch are about sources of unequal lengths
    assert len({lengths[int(row[0])] for row in prompts.rows}) == len(prompts.rows)
    assert {name for name, _ in prompts.further} >= {"source-1", "source-2"}
    assert [len(prompt) for prompt in prompts.greedy[:2]] == [1, 1]


def test_one_source_fills_the_range_and_something_is_said_of_it() -> None:
    prompts, sources = condition(gate_prompts(None, 50, 400, far=400))
    longest = dict(prompts.further)["source-400"]
    assert len(sources[int(longest[0])]) == 400
    assert len({len(sources[int(row[0])]) for row in prompts.rows}) == len(prompts.rows)
