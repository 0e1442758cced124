from __future__ import annotations

import numpy as np
import pytest

from jisu.benchmarks.lm_eval.continuations import rolling_pairs, score_continuations
from jisu.runtimes import load


@pytest.fixture(scope="module")
def engine(tiny):
    with load(tiny.fp32, threads=1) as opened:
        yield opened


def test_scores_are_the_sums_of_the_tokens_own(engine):
    pairs = [([5, 6, 7], [8, 9]), ([5], [6]), ([9, 9, 9, 9, 9], [1, 2, 3])]
    actual = score_continuations(engine, pairs)
    for (context, continuation), (logprob, _) in zip(pairs, actual, strict=True):
        expected = 0.0
        for place, token in enumerate(continuation):
            ids = np.array([[*context, *continuation[:place]]])
            logits = engine.backend.forward(ids, engine.backend.new_state(1, ids.shape[1]))[0, 0].astype(np.float64)
            expected += logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        assert logprob == pytest.approx(expected, abs=1e-4)


def test_what_the_model_would_say_itself_is_greedy_and_nothing_else(engine):
    said = list(engine.generate_ids([[5, 6, 7]], max_new_tokens=4, ignore_eos=True)[0].token_ids)
    other = [*said[:3], (said[3] + 1) % 380]
    assert [greedy for _, greedy in score_continuations(engine, [([5, 6, 7], said), ([5, 6, 7], other)])] == [
        True,
        False,
    ]


def test_a_context_that_is_too_long_loses_its_beginning(engine):
    limit = engine.backend.max_positions
    context = [token % 380 for token in range(2 * limit)]
    whole, cut = score_continuations(engine, [(context, [7, 8]), (context[-(limit - 2) :], [7, 8])])
    assert whole == pytest.approx(cut)
    with pytest.raises(ValueError, match="leave no room"):
        score_continuations(engine, [([1], [2] * limit)])
    with pytest.raises(ValueError, match="one token before it"):
        score_continuations(engine, [([], [2])])
    assert score_continuations(engine, []) == []


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 8, 9, 30])
def test_each_token_of_a_long_text_is_scored_once_in_pairs_that_fit(count):
    ids = list(range(1, count + 1))
    pairs = rolling_pairs(ids, prefix=0, limit=4)
    assert [token for _, continuation in pairs for token in continuation] == ids
    for context, continuation in pairs:
        assert len(context) >= 1
        assert len(context) + len(continuation) <= 4
        assert [*context, *continuation] == list(range(context[0], continuation[-1] + 1))
    assert rolling_pairs(ids, prefix=0, limit=None) == ([([0], ids)] if ids else [])
