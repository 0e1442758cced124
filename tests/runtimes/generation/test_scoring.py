from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation import scoring
from jisu.runtimes.generation.scoring import score_tokens
from tests.runtimes.tiny_models import ListBackend, V, logits_of

SEQUENCES = [[3, 7, 1, 9, 22, 4], [5], [8, 2], [1, 1, 1, 1], [6, 7, 8]]


def expected(sequence: list[int]) -> list[float]:
    logits = logits_of(sequence).astype(float)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return [float(logprobs[at, token]) for at, token in enumerate(sequence[1:])]


@pytest.mark.parametrize("positions", [1, 4, 9, 1000])
def test_scores_do_not_depend_on_how_they_are_grouped(monkeypatch: pytest.MonkeyPatch, positions: int) -> None:
    monkeypatch.setattr(scoring, "_LOGITS_BYTES", positions * 4 * V)
    backend = ListBackend()
    actual = score_tokens(backend, SEQUENCES)
    for sequence, scores in zip(SEQUENCES, actual, strict=True):
        assert list(scores.token_ids) == sequence
        assert scores.logprobs.shape == scores.greedy.shape == (len(sequence) - 1,)
        np.testing.assert_allclose(scores.logprobs, expected(sequence), atol=1e-5)
    assert all(batch * width <= positions for batch, width in backend.calls)


def test_a_greedy_continuation_is_marked() -> None:
    sequence = [3, 7]
    sequence.append(int(logits_of(sequence)[-1].argmax()))
    assert score_tokens(ListBackend(), [sequence])[0].greedy.tolist()[-1]


def test_nothing_gives_nothing() -> None:
    assert score_tokens(ListBackend(), []) == []


@pytest.mark.parametrize("sequence", [[], [1] * 65])
def test_an_empty_or_too_long_sequence_is_named(sequence: list[int]) -> None:
    with pytest.raises(InputError, match=f"Sequence 1 .*{len(sequence)} tokens"):
        score_tokens(ListBackend(), [[1], sequence])


def test_nan_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ListBackend()
    monkeypatch.setattr(backend, "logits", lambda tokens: logits_of(tokens) * np.nan)
    with pytest.raises(InputError, match="not finite"):
        score_tokens(backend, [[1, 2]])
