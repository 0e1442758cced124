from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.runtimes.speech.times import TimeRules, cut_window

NO_TIMES, FIRST, END, VOCAB = 20, 21, 3, 60
RULES = TimeRules(no_timestamps=NO_TIMES, begin=2, end=END, first_times=5)


@pytest.mark.parametrize(
    "said",
    [
        [],
        [FIRST],
        [FIRST + 2, 7],
        [FIRST, 7, 8, FIRST + 4],
        [FIRST, 7, FIRST + 4, FIRST + 4],
        [FIRST, 7, FIRST + 4, FIRST + 4, 9],
        [FIRST, FIRST],
    ],
)
@pytest.mark.parametrize("seed", range(6))
def test_the_same_tokens_are_allowed_as_by_transformers(said: list[int], seed: int) -> None:
    from transformers import GenerationConfig
    from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

    config = GenerationConfig(no_timestamps_token_id=NO_TIMES, eos_token_id=END, max_initial_timestamp_index=5)
    theirs = WhisperTimeStampLogitsProcessor(config, begin_index=2)
    ids = [1, 2, *said]
    logits = np.random.default_rng(seed).normal(0, 2, VOCAB).astype(np.float32)
    expected = theirs(torch.tensor([ids]), torch.from_numpy(logits)[None])[0].numpy()
    assert (np.isfinite(RULES(ids, logits)) == np.isfinite(expected)).all()
    kept = np.isfinite(expected)
    assert np.allclose(RULES(ids, logits)[kept], expected[kept])


def test_logits_of_the_caller_stay_as_they_are() -> None:
    logits = np.zeros(VOCAB, np.float32)
    RULES([1, 2], logits)
    assert not logits.any()


def test_a_finished_segment_at_the_end_closes_the_window() -> None:
    tokens = [FIRST, 7, FIRST + 4, FIRST + 4, 8, FIRST + 9]
    cuts, moved = cut_window(tokens, first=FIRST, steps=50, whole=50)
    assert [(cut.start, cut.end) for cut in cuts] == [(0, 4), (4, 9)]
    assert moved == 50


def test_what_was_not_finished_is_heard_again() -> None:
    tokens = [FIRST, 7, FIRST + 4, FIRST + 6, 8, 9]
    cuts, moved = cut_window(tokens, first=FIRST, steps=50, whole=50)
    assert [(cut.start, cut.end, cut.tokens) for cut in cuts] == [(0, 4, (FIRST, 7, FIRST + 4, FIRST + 6))]
    assert moved == 4


@pytest.mark.parametrize(("tokens", "end"), [([7, 8], 50), ([FIRST, 7], 50), ([FIRST, 7, FIRST + 3, 9], 3), ([], 50)])
def test_an_answer_without_pairs_is_one_segment(tokens: list[int], end: int) -> None:
    cuts, moved = cut_window(tokens, first=FIRST, steps=50, whole=50)
    assert [(cut.start, cut.end, cut.tokens) for cut in cuts] == [(0, end, tuple(tokens))]
    assert moved == 50
