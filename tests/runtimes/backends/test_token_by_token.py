from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.token_by_token import run_token_by_token

IDS = np.array([[5, 6, 7], [8, 0, 0]])
PAST, NEW = np.array([2, 4]), np.array([3, 1])


def run(**options):
    calls = []

    def step(one, past):
        calls.append((one[:, 0].tolist(), past.tolist()))
        return np.stack([one, past[:, None]], axis=-1).astype(np.float32)  # "logits" that tell token and place

    actual = run_token_by_token(step, IDS, past=PAST, new=NEW, vocab_size=2, **options)
    return actual.tolist(), calls


def test_a_row_that_ended_repeats_its_last_token_at_its_last_place():
    actual, calls = run(wants_all=True, recurrent=False)
    assert calls == [([5, 8], [2, 4]), ([6, 8], [3, 4]), ([7, 8], [4, 4])]
    assert actual == [[[5, 2], [6, 3], [7, 4]], [[8, 4], [8, 4], [8, 4]]]
    assert run(wants_all=False, recurrent=False)[0] == [[[7, 4]], [[8, 4]]]


def test_a_recurrent_state_would_see_the_repeated_token():
    with pytest.raises(InputError, match=r"Rows of unequal lengths.*\[3, 1\] new tokens"):
        run(wants_all=False, recurrent=True)
