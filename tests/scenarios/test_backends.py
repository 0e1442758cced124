"""Every backend, and a fake one, goes through the same cases and must give the numbers of a model without a cache."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.backend import Backend, RefillableState
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.backend_options import BackendOptions
from jisu.runtimes.backends.ort_cuda.backend import OrtCudaBackend
from jisu.runtimes.backends.registry import open_backend
from jisu.runtimes.backends.tensorrt.backend import PlanBackend
from jisu.runtimes.backends.tensorrt.profiles import Shapes
from jisu.runtimes.backends.torch.backend import TorchBackend
from tests.runtimes.backends.tensorrt.pretended import PLAN, Cuda, pretended_library
from tests.runtimes.pretended_gpu import pretended_onnxruntime
from tests.runtimes.tiny_models import ListBackend, TinyModule, V, logits_of, write_artifact

A = [3, 7, 1, 9, 22, 4, 5]
B = [8, 2, 6]
C = [11]
# float32 sums in another order over eight channels; a wrong position or mask is off by more than 0.1.
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root: Path = tmp_path_factory.mktemp("contract")
    return {target: write_artifact(root / target, target) for target in ("ort-cpu", "portable", "tensorrt")}


BACKENDS = [
    "ort-cpu",
    "ort-cpu portable",
    "ort-cuda, pretended",
    "tensorrt, pretended",
    "torch",
    "fake",
    pytest.param("ort-cuda", marks=pytest.mark.cuda),
    pytest.param("tensorrt", marks=pytest.mark.tensorrt),
]
# Longer prompts go through a plan in pieces.
SHAPES = Shapes(capacity=16, prompt=4, batch=3)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, artifacts: dict[str, Any]) -> Iterator[Backend]:
    actual: Any
    if request.param == "torch":
        actual = TorchBackend(TinyModule(), vocab_size=V, max_positions=64)
    elif request.param == "ort-cuda, pretended":
        actual = OrtCudaBackend(pretended_onnxruntime(), artifacts["ort-cpu"])
    elif request.param == "tensorrt, pretended":
        artifact = artifacts["tensorrt"]
        actual = PlanBackend(pretended_library(artifact), PLAN, artifact, shapes=SHAPES, cuda=Cuda())
    elif request.param == "fake":
        actual = ListBackend()
    elif request.param == "ort-cuda":
        actual = open_backend("ort-cuda", artifacts["ort-cpu"])
    elif request.param == "tensorrt":
        name = "tensorrt" if importlib.util.find_spec("tensorrt") else "tensorrt-rtx"
        actual = open_backend(name, artifacts["tensorrt"])
    else:
        target = "portable" if request.param.endswith("portable") else "ort-cpu"
        actual = open_backend("ort-cpu", artifacts[target], BackendOptions(threads=1))
    yield actual
    actual.close()


def ids(*rows: list[int]) -> np.ndarray:
    width = max(len(row) for row in rows)
    return np.array([row + [0] * (width - len(row)) for row in rows], np.int64)


def lengths(*rows: list[int]) -> np.ndarray:
    return np.array([len(row) for row in rows], np.int64)


def close_to(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_prefill_gives_the_last_logits(backend: Backend) -> None:
    state = backend.new_state(1, len(A))
    out = backend.forward(ids(A), state)
    assert out.shape == (1, 1, V)
    close_to(out[0], logits_of(A)[-1:])
    assert state.lengths.tolist() == [len(A)]


def test_all_logits_are_those_of_every_position(backend: Backend) -> None:
    out = backend.forward(ids(A), backend.new_state(1, 10), logits="all")
    close_to(out[0], logits_of(A))


def test_token_by_token_equals_prefill(backend: Backend) -> None:
    state = backend.new_state(1, len(A))
    for step, token in enumerate(A):
        out = backend.forward(ids([token]), state)
        close_to(out[0], logits_of(A)[step : step + 1])


@pytest.mark.parametrize("cuts", [(1, 4), (3, 4), (2, 3, 6)])
@pytest.mark.parametrize("rows", [1, 2])
def test_chunks_equal_prefill(backend: Backend, cuts: tuple[int, ...], rows: int) -> None:
    state = backend.new_state(rows, len(A) + 2)
    sequences = [A, A[::-1]][:rows]
    edges = [0, *cuts, len(A)]
    for start, end in pairwise(edges):
        out = backend.forward(ids(*[row[start:end] for row in sequences]), state, logits="all")
        for row, sequence in enumerate(sequences):
            close_to(out[row], logits_of(sequence)[start:end])


def test_rows_of_unequal_lengths_do_not_touch_each_other(backend: Backend) -> None:
    state = backend.new_state(3, 16)
    out = backend.forward(ids(A, B, C), state, new_lengths=lengths(A, B, C))
    for row, sequence in enumerate((A, B, C)):
        close_to(out[row], logits_of(sequence)[-1:])
    more = [5, 6, 7]
    for step in range(3):
        out = backend.forward(ids([more[step]], [more[-1 - step]], [9]), state)
        close_to(out[0], logits_of(A + more[: step + 1])[-1:])
        close_to(out[1], logits_of(B + more[::-1][: step + 1])[-1:])
        close_to(out[2], logits_of(C + [9] * (step + 1))[-1:])


def test_unequal_lengths_with_all_logits(backend: Backend) -> None:
    state = backend.new_state(2, 16)
    out = backend.forward(ids(B, A), state, new_lengths=lengths(B, A), logits="all")
    assert out.shape == (2, len(A), V)
    assert np.isfinite(out).all()
    close_to(out[0, : len(B)], logits_of(B))
    close_to(out[1], logits_of(A))


def test_unequal_chunks_on_unequal_pasts(backend: Backend) -> None:
    state = backend.new_state(2, 10)
    backend.forward(ids(A, B), state, new_lengths=lengths(A, B))
    first, second = [4, 4, 8], [9]
    out = backend.forward(ids(first, second), state, new_lengths=lengths(first, second), logits="all")
    close_to(out[0], logits_of(A + first)[-3:])
    close_to(out[1, :1], logits_of(B + second)[-1:])
    assert state.lengths.tolist() == [10, 4]


def test_padding_may_reach_behind_the_buffer(backend: Backend) -> None:
    state = backend.new_state(2, 8)
    backend.forward(ids(A, B), state, new_lengths=lengths(A, B))
    out = backend.forward(ids([1], [1, 2, 3]), state, new_lengths=np.array([1, 3]))
    close_to(out[0], logits_of([*A, 1])[-1:])
    close_to(out[1], logits_of([*B, 1, 2, 3])[-1:])


def test_a_batch_that_starts_with_one_token(backend: Backend) -> None:
    state = backend.new_state(2, 4)
    out = backend.forward(ids([5], [6]), state)
    close_to(out[1], logits_of([6]))
    out = backend.forward(ids([7], [8]), state)
    close_to(out[0], logits_of([5, 7])[-1:])


def test_rewind_forgets_what_came_after(backend: Backend) -> None:
    state = backend.new_state(2, 12)
    backend.forward(ids(A, A[::-1]), state)
    state.rewind(np.array([2, 0]))
    assert state.lengths.tolist() == [2, 0]
    out = backend.forward(ids([8], [9]), state)
    close_to(out[0], logits_of([*A[:2], 8])[-1:])
    close_to(out[1], logits_of([9])[-1:])


def test_reorder_continues_the_named_rows(backend: Backend) -> None:
    state = backend.new_state(3, 12)
    backend.forward(ids(A, B, C), state, new_lengths=lengths(A, B, C))
    backend.forward(ids([1], [1], [1]), state)
    state.reorder(np.array([2, 0, 0]))
    assert state.lengths.tolist() == [2, 8, 8]
    out = backend.forward(ids([8], [9], [10]), state)
    close_to(out[0], logits_of([*C, 1, 8])[-1:])
    close_to(out[1], logits_of([*A, 1, 9])[-1:])
    close_to(out[2], logits_of([*A, 1, 10])[-1:])


def test_two_states_do_not_touch_each_other(backend: Backend) -> None:
    one, two = backend.new_state(1, 12), backend.new_state(1, 12)
    backend.forward(ids(A), one)
    backend.forward(ids(B), two)
    backend.forward(ids([5]), one)
    out = backend.forward(ids([6]), two)
    close_to(out[0], logits_of([*B, 6])[-1:])
    close_to(backend.forward(ids([7]), one)[0], logits_of([*A, 5, 7])[-1:])


def test_more_tokens_than_the_capacity_are_refused(backend: Backend) -> None:
    state = backend.new_state(1, 4)
    with pytest.raises(InputError, match=r"no room.*7 tokens.*at most 4"):
        backend.forward(ids(A), state)
    backend.forward(ids(A[:4]), state)
    with pytest.raises(InputError, match="no room"):
        backend.forward(ids([1]), state)
    assert state.lengths.tolist() == [4]


@pytest.mark.parametrize("token", [-1, V])
def test_a_token_outside_the_vocabulary_is_refused(backend: Backend, token: int) -> None:
    with pytest.raises(InputError, match="not in the vocabulary"):
        backend.forward(ids([token]), backend.new_state(1, 4))


def test_wrong_rewinds_and_orders_are_refused(backend: Backend) -> None:
    state = backend.new_state(2, 8)
    backend.forward(ids([1, 2], [3, 4]), state)
    for wrong in ([3, 0], [-1, 0], [0]):
        with pytest.raises(InputError, match="rewound"):
            state.rewind(np.array(wrong))
    for wrong in ([0, 2], [-1, 0], [0]):
        with pytest.raises(InputError, match="reordered"):
            state.reorder(np.array(wrong))


def test_closing_twice_is_allowed(backend: Backend) -> None:
    backend.close()
    backend.close()


def test_a_closed_backend_refuses_calls(backend: Backend) -> None:
    if backend.name == "list":
        pytest.skip("the fake backend holds nothing that could be closed")
    state = backend.new_state(1, 4)
    backend.close()
    with pytest.raises(InputError, match="closed"):
        backend.forward(ids([1]), state)


def test_rows_of_another_state_go_on_among_those_that_were_there(backend: Backend) -> None:
    state, part = backend.new_state(3, 16), backend.new_state(2, 8)
    if not isinstance(state, RefillableState):
        pytest.skip(f"{backend.name} computes a batch to its end")
    backend.forward(ids(A, B, C), state, new_lengths=lengths(A, B, C))
    backend.forward(ids([4], [5], [6]), state)
    backend.forward(ids(A[::-1], C), part, new_lengths=lengths(A, C))
    state.take_rows(np.array([2, 0]), part)
    assert state.lengths.tolist() == [len(C), len(B) + 1, len(A)]
    for step in range(1, 4):
        out = backend.forward(ids([7], [8], [9]), state)
        close_to(out[0], logits_of(C + [7] * step)[-1:])
        close_to(out[1], logits_of([*B, 5] + [8] * step)[-1:])
        close_to(out[2], logits_of(A[::-1] + [9] * step)[-1:])
    with pytest.raises(InputError, match="no room for these rows"):
        part.take_rows(np.array([0, 1]), backend_rows(backend, [A + B, C]))  # type: ignore[attr-defined]


def backend_rows(backend: Backend, rows: list[list[int]]) -> Any:
    """A state that has read these rows."""
    state = backend.new_state(len(rows), 16)
    backend.forward(ids(*rows), state, new_lengths=lengths(*rows))
    return state
