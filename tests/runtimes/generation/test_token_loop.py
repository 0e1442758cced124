from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.sampling import RowSampler
from jisu.runtimes.generation.stopping import Stopping
from jisu.runtimes.generation.token_loop import generate_tokens, prefill
from tests.runtimes.tiny_models import ListBackend, V, logits_of


def run(backend: ListBackend, prompts: list[list[int]], limits: list[int], state: Any = None) -> list[list[int]]:
    state = state or backend.new_state(len(prompts), 64)
    samplers = [RowSampler(SamplingOptions(), prompt=prompt, vocab_size=V) for prompt in prompts]
    rows: list[list[int]] = [[] for _ in prompts]
    for step in generate_tokens(backend, state, prompts, samplers=samplers, stopping=Stopping(limits=limits)):
        for item in step:
            rows[item.row].append(item.token)
    return rows


def test_the_last_token_is_not_run() -> None:
    backend = ListBackend()
    assert len(run(backend, [[1, 2]], [3])[0]) == 3
    assert backend.calls == [(1, 2), (1, 1), (1, 1)]


def test_a_token_for_each_row_until_its_own_limit() -> None:
    backend = ListBackend()
    rows = run(backend, [[1, 2], [3], [4, 5, 6]], [1, 5, 2])
    assert [len(row) for row in rows] == [1, 5, 2]
    assert rows[1] == run(ListBackend(), [[3]], [5])[0]


def test_an_ended_row_is_emptied_and_needs_no_more_room() -> None:
    backend = ListBackend()
    state = backend.new_state(2, 6)
    run(backend, [[1, 2, 3, 4, 5], [3]], [1, 5], state)
    assert state.lengths.tolist() == [1, 5]


def test_the_caller_may_end_a_row_between_steps() -> None:
    backend = ListBackend()
    stopping = Stopping(limits=[9])
    sampler = RowSampler(SamplingOptions(), prompt=[1], vocab_size=V)
    steps = generate_tokens(backend, backend.new_state(1, 9), [[1]], samplers=[sampler], stopping=stopping)
    next(steps)
    stopping.finish(0, "stop")
    assert list(steps) == []
    assert len(backend.calls) == 1


def test_what_the_state_holds_is_not_run_again() -> None:
    backend = ListBackend()
    state = backend.new_state(1, 9)
    prefill(backend, state, [[1, 2, 3]])
    backend.calls.clear()
    out = prefill(backend, state, [[1, 2, 3, 4]])
    assert backend.calls == [(1, 1)]
    np.testing.assert_array_equal(out[0], logits_of([1, 2, 3, 4])[-1:])


def test_a_long_prompt_is_run_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jisu.runtimes.generation.PREFILL_CHUNK", 4)
    backend = ListBackend()
    prompt = list(range(1, 11))
    out = prefill(backend, backend.new_state(1, 10), [prompt])
    assert backend.calls == [(1, 4), (1, 4), (1, 2)]
    np.testing.assert_array_equal(out[0], logits_of(prompt)[-1:])


def test_long_prompts_of_a_batch_are_run_in_pieces_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jisu.runtimes.generation.PREFILL_CHUNK", 4)
    backend = ListBackend()
    prompts = [list(range(1, 11)), [7, 8], [5, 4, 3, 2], [1, 2, 3, 4, 5, 6]]
    state = backend.new_state(4, 10)
    out = prefill(backend, state, prompts)
    assert backend.calls == [(4, 4), (4, 4), (4, 2)]
    for row, prompt in enumerate(prompts):
        np.testing.assert_array_equal(out[row], logits_of(prompt)[-1:])
    assert state.lengths.tolist() == [10, 2, 4, 6]


def test_rows_of_unequal_lengths_are_not_cut_where_the_state_cannot_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jisu.runtimes.generation.PREFILL_CHUNK", 4)
    backend = ListBackend()
    state = backend.new_state(2, 10)
    state.recurrent = True
    prefill(backend, state, [[1] * 6, [2]])
    assert backend.calls == [(2, 6)]


def test_a_state_that_already_holds_the_prompt_is_refused() -> None:
    backend = ListBackend()
    state = backend.new_state(1, 9)
    prefill(backend, state, [[1, 2]])
    with pytest.raises(InputError, match="no tokens"):
        prefill(backend, state, [[1, 2]])


def test_a_prompt_that_joins_is_read_apart_and_goes_on_with_the_others() -> None:
    backend = ListBackend()
    stopping = Stopping(limits=[2, 6])
    samplers = [RowSampler(SamplingOptions(), prompt=prompt, vocab_size=V) for prompt in ([1, 2], [3])]
    joining: dict[int, list[int]] = {}
    steps = generate_tokens(
        backend, backend.new_state(2, 16), [[1, 2], [3]], samplers=samplers, stopping=stopping, joining=joining
    )
    rows: dict[str, list[int]] = {"first": [], "second": [], "third": []}
    names = ["first", "second"]
    for step in steps:
        for item in step:
            rows[names[item.row]].append(item.token)
        if names[0] == "first" and stopping.reasons[0]:
            names[0], samplers[0] = "third", RowSampler(SamplingOptions(), prompt=[4, 5, 6], vocab_size=V)
            stopping.begin(0, 3)
            joining[0] = [4, 5, 6]
    assert not joining
    for name, prompt, limit in (("first", [1, 2], 2), ("second", [3], 6), ("third", [4, 5, 6], 3)):
        assert rows[name] == run(ListBackend(), [prompt], [limit])[0]
    assert (1, 3) in backend.calls, "read apart"
