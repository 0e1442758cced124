"""A model without state behind the backend protocol: the tokens are the state."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.prefix_backend import PrefixBackend
from tests.runtimes.tiny_models import V, logits_of

A, B, C = [3, 7, 1, 9, 22], [8, 2, 6], [11]


def run(token_ids, expected):
    rows = [logits_of(row.tolist()) for row in token_ids]
    return np.stack([row[places] for row, places in zip(rows, expected, strict=True)])


@pytest.fixture
def backend():
    return PrefixBackend("whole", run, vocab_size=V, max_positions=None)


def padded(*rows):
    width = max(map(len, rows))
    return np.array([row + [0] * (width - len(row)) for row in rows], np.int64)


def lengths(*rows):
    return np.array([len(row) for row in rows], np.int64)


def test_rows_of_unequal_lengths_continue_from_their_own_ends(backend):
    state = backend.new_state(3, 8)
    actual = backend.forward(padded(A, B, C), state, new_lengths=lengths(A, B, C))
    for row, ids in enumerate((A, B, C)):
        np.testing.assert_allclose(actual[row, 0], logits_of(ids)[-1], atol=1e-4)
    actual = backend.forward(np.array([[4], [5], [6]]), state)
    for row, ids in enumerate(([*A, 4], [*B, 5], [*C, 6])):
        np.testing.assert_allclose(actual[row, 0], logits_of(ids)[-1], atol=1e-4)
    assert state.lengths.tolist() == [6, 4, 2]


def test_all_logits_are_those_of_the_new_tokens(backend):
    state = backend.new_state(2, 8)
    backend.forward(padded(C, C), state)
    actual = backend.forward(padded(A, B), state, new_lengths=lengths(A, B), logits="all")
    assert actual.shape == (2, 5, V)
    np.testing.assert_allclose(actual[0], logits_of([*C, *A])[1:], atol=1e-4)
    np.testing.assert_allclose(actual[1, :3], logits_of([*C, *B])[1:], atol=1e-4)
    assert np.isfinite(actual).all()


def test_rows_are_taken_back_and_exchanged(backend):
    state = backend.new_state(2, 8)
    backend.forward(padded(A, B), state, new_lengths=lengths(A, B))
    state.rewind(np.array([2, 3]))
    state.reorder(np.array([1, 0]))
    actual = backend.forward(np.array([[9], [9]]), state)
    np.testing.assert_allclose(actual[0, 0], logits_of([*B, 9])[-1], atol=1e-4)
    np.testing.assert_allclose(actual[1, 0], logits_of([*A[:2], 9])[-1], atol=1e-4)


def test_what_every_backend_refuses_is_refused(backend):
    state = backend.new_state(1, 3)
    with pytest.raises(InputError, match="no room"):
        backend.forward(padded(A), state)
    with pytest.raises(InputError, match="vocabulary"):
        backend.forward(np.array([[V]]), state)
    backend.close()
    backend.close()
    with pytest.raises(InputError, match="closed"):
        backend.forward(padded(C), state)
