from __future__ import annotations

import numpy as np

from runtimes.generation.forced_tokens import ForcedTokens

SCORES = np.array([0.5, 2.0, 1.0])


def allowed(forced: ForcedTokens, said: int) -> list[int]:
    return np.flatnonzero(np.isfinite(forced([9] * (2 + said), SCORES.copy()))).tolist()


def test_the_first_and_the_last_token_are_forced_and_no_other() -> None:
    forced = ForcedTokens(first=2, last=0, prompt=2, limit=4)
    assert [allowed(forced, said) for said in range(4)] == [[2], [0, 1, 2], [0, 1, 2], [0]]


def test_without_a_forced_token_the_scores_are_as_they_were() -> None:
    forced = ForcedTokens(first=None, last=None, prompt=2, limit=1)
    np.testing.assert_array_equal(forced([9, 9], SCORES.copy()), SCORES)


def test_the_first_wins_where_it_is_the_last_too() -> None:
    assert allowed(ForcedTokens(first=2, last=0, prompt=2, limit=1), 0) == [2]
