from __future__ import annotations

import math
import re

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.sampling import RowSampler, distribution, draw, log_softmax, token_logprobs
from jisu.runtimes.generation.seeds import row_random

# Probabilities 1/2, 1/4, 1/8, 1/8 at temperature 1.
HALVES = np.log(np.array([4.0, 2.0, 1.0, 1.0]))


def kept(**options: object) -> tuple[list[int], list[float]]:
    tokens, probabilities = distribution(HALVES.copy(), SamplingOptions(**{"temperature": 1.0, **options}))  # type: ignore[arg-type]
    return tokens.tolist(), [round(value, 9) for value in probabilities.tolist()]


def sampler(prompt: list[int] | None = None, **options: object) -> RowSampler:
    checked = SamplingOptions(**options)  # type: ignore[arg-type]
    ids = prompt or [0]
    return RowSampler(checked, prompt=ids, vocab_size=4, random=row_random(checked.seed, ids))


def test_temperature_one_keeps_the_distribution() -> None:
    assert kept() == ([0, 1, 2, 3], [0.5, 0.25, 0.125, 0.125])


def test_temperature_half_squares_the_odds() -> None:
    assert kept(temperature=0.5) == ([0, 1, 2, 3], [round(x / 22, 9) for x in (16, 4, 1, 1)])


def test_top_k_keeps_the_largest_and_the_lower_id_of_equals() -> None:
    assert kept(top_k=1) == ([0], [1.0])
    assert kept(top_k=3) == ([0, 1, 2], [round(x / 7, 9) for x in (4, 2, 1)])


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    assert kept(top_p=0.5) == ([0], [1.0])
    assert kept(top_p=0.51) == ([0, 1], [round(2 / 3, 9), round(1 / 3, 9)])
    assert kept(top_p=0.8)[0] == [0, 1, 2]
    assert kept(top_p=1.0)[0] == [0, 1, 2, 3]


def test_min_p_is_relative_to_the_likeliest() -> None:
    assert kept(min_p=0.5)[0] == [0, 1]
    assert kept(min_p=0.25)[0] == [0, 1, 2, 3]
    assert kept(min_p=0.26)[0] == [0, 1]


def test_temperature_comes_before_top_p() -> None:
    # At temperature 0.5 the first token alone has 16/22 = 0.73.
    assert kept(temperature=0.5, top_p=0.7)[0] == [0]
    assert kept(temperature=1.0, top_p=0.7)[0] == [0, 1]


def test_nucleus_of_a_flat_distribution_needs_every_candidate() -> None:
    scores = np.zeros(1000)
    scores[0] = 30.0  # all others lie deeper than the usual candidates
    tokens, _ = distribution(scores, SamplingOptions(temperature=1.0, top_p=1 - 1e-12))
    assert len(tokens) > 1


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 0), (0.499, 0), (0.5, 1), (0.7499, 1), (0.76, 2), (0.9999999, 3)])
def test_draw_inverts_the_cumulative_distribution(uniform: float, token: int) -> None:
    assert draw(HALVES.copy(), SamplingOptions(temperature=1.0), uniform) == token


@pytest.mark.parametrize("size", [255, 256, 257, 1000])
def test_draw_from_a_large_vocabulary_equals_one_running_sum(size: int) -> None:
    scores = np.random.default_rng(size).normal(size=size) * 3
    scores[::7] = -np.inf
    weights = np.exp(scores)
    cumulative = np.cumsum(weights) / weights.sum()
    for uniform in np.linspace(0, 0.999, 97):
        expected = int(np.searchsorted(cumulative, uniform, side="right"))
        assert draw(scores.copy(), SamplingOptions(temperature=1.0), float(uniform)) == expected


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999, 0.9999999])
@pytest.mark.parametrize("width", [0.1, 3.0, 20.0])
def test_nucleus_equals_that_of_the_sorted_vocabulary(top_p: float, width: float) -> None:
    scores = np.round(np.random.default_rng(1).normal(size=2000) * width, 1)  # with many equal ones
    weights = np.exp(scores - scores.max())
    order = np.argsort(-weights, kind="stable")
    count = int(np.searchsorted(np.cumsum(weights[order]), top_p * weights.sum())) + 1
    tokens, _ = distribution(scores.copy(), SamplingOptions(temperature=1.0, top_p=top_p))
    # Sums in another order may differ by one token at the edge.
    assert abs(len(tokens) - count) <= 1
    assert set(tokens.tolist()) ^ set(order[:count].tolist()) <= set(order[count - 1 : count + 1].tolist())


def test_forbidden_tokens_are_never_drawn() -> None:
    scores = np.array([-np.inf, 0.0, -np.inf, 0.0])
    for uniform in (0.0, 0.3, 0.5, 0.999999999):
        assert draw(scores.copy(), SamplingOptions(temperature=1.0), uniform) in (1, 3)
        assert draw(scores.copy(), SamplingOptions(temperature=1.0, top_k=3), uniform) in (1, 3)


def test_frequencies_follow_the_probabilities() -> None:
    chooser = sampler(temperature=1.0, seed=3)
    counts = np.bincount([chooser.choose(HALVES.astype(np.float32), step=i) for i in range(4000)], minlength=4)
    # Standard deviation of 4000 draws at p = 1/2 is 32; five of them.
    np.testing.assert_allclose(counts, [2000, 1000, 500, 500], atol=160)


def test_a_seed_gives_the_same_tokens_and_another_prompt_others() -> None:
    logits = np.zeros(4, np.float32)

    def tokens(prompt: int, seed: int) -> list[int]:
        chooser = sampler([prompt], temperature=1.0, seed=seed)
        return [chooser.choose(logits, step=i) for i in range(32)]

    assert tokens(0, 1) == tokens(0, 1)
    assert tokens(0, 1) != tokens(1, 1)
    assert tokens(0, 1) != tokens(0, 2)


def test_no_temperature_and_zero_are_greedy() -> None:
    logits = np.array([1, 3, 3, 2], np.float32)
    assert sampler().choose(logits, step=0) == 1
    assert sampler(temperature=0).choose(logits, step=0) == 1


def test_repetition_penalty_divides_positive_and_multiplies_negative() -> None:
    logits = np.array([2.0, 1.5, -1.0, -1.5], np.float32)
    assert sampler([0], repetition_penalty=2.0).choose(logits, step=0) == 1  # 2/2 < 1.5
    assert sampler([0], repetition_penalty=1.2).choose(logits, step=0) == 0  # 2/1.2 > 1.5
    negative = np.array([-9.0, -9.0, -1.0, -1.5], np.float32)
    assert sampler([2], repetition_penalty=2.0).choose(negative, step=0) == 3  # -2 < -1.5


def test_presence_and_frequency_count_the_answer_only() -> None:
    logits = np.array([1.0, 0.5, 0.0, 0.0], np.float32)
    presence = sampler([0, 0, 0], presence_penalty=0.6)
    assert [presence.choose(logits, step=i) for i in range(4)] == [0, 1, 0, 0]
    frequency = sampler([0, 0, 0], frequency_penalty=0.3)
    # token 0: 1.0 .7 .4, token 1: .5 .2
    assert [frequency.choose(logits, step=i) for i in range(4)] == [0, 0, 1, 0]


def test_bias_forces_and_forbids() -> None:
    logits = np.array([1.0, 0.5, 0.0, 0.0], np.float32)
    assert sampler(logit_bias={3: 5}).choose(logits, step=0) == 3
    assert sampler(logit_bias={0: -math.inf}).choose(logits, step=0) == 1


def test_processors_see_the_row_and_run_after_the_bias() -> None:
    seen = []

    def process(ids: object, scores: np.ndarray) -> np.ndarray:
        seen.append((tuple(ids), scores.tolist()))  # type: ignore[call-overload]
        return scores * -1

    logits = np.array([1.0, 0.0, 0.0, 0.5], np.float32)
    assert sampler([2], logit_bias={3: 1.0}, logits_processors=[process]).choose(logits, step=0) == 1
    assert seen == [((2,), [1.0, 0.0, 0.0, 1.5])]


def test_a_processor_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="another shape"):
        sampler(logits_processors=[lambda ids, scores: scores[:2]]).choose(np.zeros(4, np.float32), step=0)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"presence_penalty": 1.0}])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_is_an_error_with_its_step(options: dict[str, object], bad: float) -> None:
    logits = np.array([0.0, bad, 1.0, 0.0], np.float32)
    with pytest.raises(InputError, match="step 7"):
        sampler(**options).choose(logits, step=7)


def test_nothing_left_to_choose_is_an_error() -> None:
    with pytest.raises(InputError, match=r"step 2.*-inf"):
        sampler().choose(np.full(4, -np.inf, np.float32), step=2)
    with pytest.raises(InputError, match="after bias"):
        sampler(logit_bias=dict.fromkeys(range(4), -math.inf)).choose(np.zeros(4, np.float32), step=0)


def test_a_nan_from_a_processor_is_an_error() -> None:
    with pytest.raises(InputError, match="after bias"):
        sampler(logits_processors=[lambda ids, scores: scores * np.nan]).choose(np.zeros(4, np.float32), step=0)


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(InputError, match=re.escape("[4]")):
        sampler(logit_bias={4: 1.0})


def test_a_tiny_temperature_is_almost_greedy() -> None:
    assert kept(temperature=1e-320)[0][0] == 0
    assert draw(HALVES.copy(), SamplingOptions(temperature=1e-320), 0.99) == 0


def test_logprobs_are_those_of_the_model() -> None:
    actual = token_logprobs(HALVES.astype(np.float32), 2, top=2)
    assert actual.logprob == pytest.approx(math.log(1 / 8))
    assert [token for token, _ in actual.top] == [0, 1]
    assert [value for _, value in actual.top] == pytest.approx([math.log(1 / 2), math.log(1 / 4)])
    assert token_logprobs(HALVES.astype(np.float32), 2, top=0).top == ()


def test_log_softmax_of_large_logits_is_finite() -> None:
    np.testing.assert_allclose(log_softmax(np.array([1e4, 1e4], np.float32)), [math.log(0.5)] * 2)
