from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.text_run import TextRun, begin_state, new_token_limit
from tests.runtimes.tiny_models import ListBackend
from tests.runtimes.tiny_text import ScriptedBackend

EOS = 9


def counting(tokens: list[int]) -> int:
    """The next number, and the end after 4, 8 and itself."""
    return EOS if tokens[-1] in (4, 8, EOS) else tokens[-1] + 1


def run(prompts: list[list[int]], **options: Any) -> TextRun:
    more = {name: options.pop(name) for name in ("codec", "cut", "state") if name in options}
    return TextRun(
        ScriptedBackend(10, counting, max_positions=more.pop("positions", 32)),
        prompts,
        options=SamplingOptions(temperature=0, **options),
        codec=more.pop("codec", None),
        eos=[EOS],
        **more,
    )


def finished(one: TextRun) -> list[Any]:
    list(one)
    return one.results()


def test_each_row_ends_by_itself_and_keeps_the_token_that_ended_it() -> None:
    first, second = finished(run([[1], [5, 6, 7]], max_new_tokens=5))
    assert (first.token_ids, first.finish_reason, first.prompt_tokens) == ((2, 3, 4, EOS), "eos", 1)
    assert (second.token_ids, second.finish_reason, second.prompt_tokens) == ((8, EOS), "eos", 3)


def test_the_steps_of_a_row_are_those_it_was_in() -> None:
    one = run([[1], [7]], max_new_tokens=5)
    first, second = finished(one)
    assert len(one.step_seconds) == 4
    assert (first.timings.decode_steps, second.timings.decode_steps) == (3, 1)
    assert first.timings.decode_seconds == pytest.approx(sum(one.step_seconds[1:]))
    assert second.timings.decode_seconds == pytest.approx(one.step_seconds[1])
    assert first.timings.time_to_first_token == pytest.approx(one.step_seconds[0])


def test_a_limit_ends_a_row_and_end_tokens_can_be_ignored() -> None:
    (short,) = finished(run([[1]], max_new_tokens=2))
    assert (short.token_ids, short.finish_reason) == ((2, 3), "length")
    (long,) = finished(run([[3]], max_new_tokens=3, ignore_eos=True))
    assert (long.token_ids[:2], long.finish_reason) == ((4, EOS), "length")


def test_probabilities_come_with_each_token_when_requested() -> None:
    (one,) = finished(run([[1]], max_new_tokens=3, logprobs=1))
    assert one.logprobs is not None
    assert len(one.logprobs) == 3
    (none,) = finished(run([[1]], max_new_tokens=3))
    assert none.logprobs is None


def test_nothing_is_drawn_greedily_and_a_seed_is_named_otherwise() -> None:
    assert finished(run([[1]], max_new_tokens=1))[0].seed is None
    options = SamplingOptions(max_new_tokens=1, temperature=1)
    drawn = TextRun(ScriptedBackend(10, counting), [[1]], options=options, codec=None, eos=[EOS])
    assert finished(drawn)[0].seed is not None


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[1]], {"num_beams": 2}, "cannot use beam search"),
        ([[1]], {"stop": ("x",)}, "Stop strings need a tokenizer"),
        ([[10]], {}, "not in the vocabulary"),
        ([[1], []], {}, "has no tokens"),
        ([[1], [1] * 32], {}, "too long for this model.*at most 31"),
        ([[1] * 30], {"max_new_tokens": 3}, "go past the model's positions.*at most 2 new tokens"),
    ],
)
def test_what_this_model_cannot_do_is_refused_before_it_computes(
    prompts: list[list[int]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(prompts, **options)


def test_what_fits_is_given_where_a_run_may_be_cut() -> None:
    (one,) = finished(run([[1] * 31], max_new_tokens=3, cut=True))
    assert one.token_ids == (2,)


def limit(prompt: int, positions: int | None, longer: str | None = None, **options: Any) -> int:
    return new_token_limit(prompt, positions, SamplingOptions(**options), name="The prompt", longer=longer)


def test_without_a_limit_a_row_gets_the_default_within_its_room() -> None:
    assert limit(10, None) == 256
    assert limit(10, 64) == 54
    assert limit(10, None, max_new_tokens=7) == 7


def test_what_a_plan_holds_is_no_property_of_the_model() -> None:
    with pytest.raises(InputError, match="too long for this plan.*build a longer one"):
        limit(8, 8, longer="build a longer one")


def test_a_state_has_room_for_the_longest_row_and_its_answer() -> None:
    state = begin_state(ListBackend(), [[1, 2, 3], [4]], [2, 9], copies=2)
    assert (state.capacity, len(state.lengths)) == (10, 4)


def test_a_row_that_is_through_gives_its_place_to_another_prompt() -> None:
    one = run([[5], [0, 1]], max_new_tokens=5)
    answers = {}
    for _ in one:
        for row in one.ended_rows:
            answers.setdefault((row, one.result(row).prompt_tokens), one.result(row))
        if (0, 1) in answers and (0, 2) not in answers and 0 in one.ended_rows:
            assert one.refill(0, [6, 7], seed=None)
    assert answers[0, 1].token_ids == (6, 7, 8, EOS)
    assert answers[1, 2].token_ids == (2, 3, 4, EOS)
    assert answers[0, 2].token_ids == (8, EOS)
    steps = one.step_seconds
    assert len(steps) == 4 + 2
    assert answers[0, 2].timings.time_to_first_token == pytest.approx(steps[4])
    assert answers[0, 2].timings.decode_seconds == pytest.approx(steps[5])


def test_a_prompt_that_the_state_has_no_room_for_is_not_taken() -> None:
    one = run([[4]], max_new_tokens=3)
    next(iter(one))
    assert one.refillable
    assert not one.refill(0, [1, 2, 3], seed=None)
    assert one.result(0).token_ids == (EOS,)
    with pytest.raises(InputError, match="no tokens"):
        one.refill(0, [], seed=None)
