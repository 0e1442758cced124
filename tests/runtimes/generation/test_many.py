"""Many prompts: batches of like lengths, order, errors, and seeds that no batch changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.engine import Engine
from jisu.runtimes.generation.many import Prompt, PromptResult, answer_many
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.runs import Run, begin_run
from jisu.runtimes.generation.text_run import TextRun
from jisu.runtimes.opening import load
from tests.runtimes.tiny_models import write_artifact

IDS = {"a": [3], "bb": [3, 7], "ccc": [4, 4, 4], "dddd": [5, 6, 7, 8], "b2": [8, 9], "bad": [], "far": [1] * 200}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("tiny") / "artifact"
    write_artifact(folder, "ort-cpu")
    return load(folder, threads=1)


class Many:
    """Answers prompts whose names are keys of `IDS`, and remembers the batches."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.engine = engine
        self.options = SamplingOptions(**{"max_new_tokens": 4, **options})
        self.batches: list[list[int]] = []

    def begin(self, rows: Sequence[Sequence[int]], seeds: Sequence[int | None]) -> Run:
        run = begin_run(
            self.engine.backend,
            rows,
            options=self.engine.completed_options(self.options),
            codec=None,
            facts=self.engine.artifact.manifest.model,
            seeds=seeds,
        )
        self.batches.append([len(row) for row in rows])
        return run

    def encode(self, prompt: str | Prompt) -> list[int]:
        ids = IDS[prompt if isinstance(prompt, str) else prompt.text or ""]
        if not ids:
            raise InputError("It is bad")
        return ids

    def __call__(self, prompts: Any, **more: Any) -> Iterator[PromptResult]:
        seed = None if self.options.is_greedy else self.options.seed
        return answer_many(prompts, encode=self.encode, begin=self.begin, seed=seed, **more)


def test_each_prompt_gets_what_it_gets_alone(engine: Engine) -> None:
    names = ["dddd", "a", "ccc", "bb", "b2"]
    results = {item.index: item.result.token_ids for item in Many(engine)(names, batch_size=2)}
    alone = [engine.generate_ids([IDS[name]], max_new_tokens=4)[0].token_ids for name in names]
    assert [results[index] for index in range(5)] == alone


def test_batches_hold_rows_of_like_lengths_and_at_most_the_size(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextRun, "refillable", False)
    many = Many(engine)
    assert len(list(many(["dddd", "a", "ccc", "bb", "b2"], batch_size=2))) == 5
    assert many.batches == [[4, 3], [2, 2], [1]]


def test_the_place_of_a_row_that_is_through_goes_to_the_next_prompt(engine: Engine) -> None:
    many = Many(engine, max_new_tokens=None, ignore_eos=True, max_length=12)
    answers = list(many(["dddd", "a", "ccc", "bb", "b2"], batch_size=2))
    assert many.batches == [[4, 3]]
    for item in answers:
        ids = IDS[str(item.prompt)]
        (alone,) = engine.generate_ids([ids], ignore_eos=True, max_new_tokens=12 - len(ids))
        assert item.result.token_ids == alone.token_ids


def test_a_prompt_that_cannot_join_is_refused_and_the_next_one_takes_the_place(engine: Engine) -> None:
    many = Many(engine, max_new_tokens=3)
    begin = many.begin

    def refusing(rows: Sequence[Sequence[int]], seeds: Sequence[int | None]) -> Run:
        run = begin(rows, seeds)
        refill = run.refill

        def refused(row: int, prompt: Sequence[int], *, seed: int | None) -> bool:
            if len(prompt) == 2:
                raise InputError("It cannot join")
            return refill(row, prompt, seed=seed)

        run.refill = refused  # type: ignore[method-assign]
        return run

    many.begin = refusing  # type: ignore[method-assign]
    results = {str(item.prompt): item for item in many(["dddd", "ccc", "bb", "a"], batch_size=2, on_error="yield")}
    assert "cannot join" in str(results["bb"].error)
    assert len(results["a"].result.token_ids) == 3


def test_a_prompt_without_room_waits_for_the_next_batch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextRun, "refill", lambda *_, **__: False)
    many = Many(engine)
    assert len(list(many(["dddd", "a", "ccc", "bb", "b2"], batch_size=2))) == 5
    assert many.batches == [[4, 3], [2, 2], [1]]


def test_order_is_that_of_the_prompts_when_asked_for(engine: Engine) -> None:
    names = ["a", "dddd", "bb", "ccc"]
    assert [item.index for item in Many(engine)(names, batch_size=2)] != [0, 1, 2, 3]
    ordered = list(Many(engine)(names, batch_size=2, in_order=True))
    assert [item.index for item in ordered] == [0, 1, 2, 3]
    assert [item.prompt for item in ordered] == names


def test_a_row_that_ends_early_is_there_before_its_batch_is_through(engine: Engine) -> None:
    many = Many(engine, max_new_tokens=None)
    steps: list[int] = []
    begin = many.begin

    def counted(rows: Sequence[Sequence[int]], seeds: Sequence[int | None]) -> Any:
        run = begin(rows, seeds)
        inner = iter(run)

        class Counted:
            refillable = False
            ended_rows = property(lambda self: run.ended_rows)
            result = staticmethod(run.result)

            def __iter__(self) -> Iterator[Any]:
                for pieces in inner:
                    steps.append(1)
                    yield pieces

        return Counted()

    many.begin = counted  # type: ignore[method-assign]
    many.options = SamplingOptions(ignore_eos=True)
    IDS["long"] = [3] * 60  # the positions leave it less room
    first = next(iter(many(["a", "long"], batch_size=2)))
    assert first.index == 1
    assert len(steps) == len(first.result.token_ids)


def test_an_endless_iterable_is_read_only_as_far_as_it_is_needed(engine: Engine) -> None:
    read = []

    def endless() -> Iterator[str]:
        while True:
            read.append(1)
            yield "a"

    answers = Many(engine)(endless(), batch_size=2)
    assert next(answers).result.token_ids
    assert len(read) == 32


def test_a_prompt_that_is_refused_ends_all_or_is_its_own_result(engine: Engine) -> None:
    with pytest.raises(InputError, match="It is bad"):
        list(Many(engine)(["a", "bad", "bb"]))
    results = {item.index: item for item in Many(engine)(["a", "bad", "far", "bb"], on_error="yield")}
    assert sorted(index for index, item in results.items() if item.error is not None) == [1, 2]
    assert "too long" in str(results[2].error)
    assert results[3].result.token_ids
    with pytest.raises(InputError, match="It is bad"):
        _ = results[1].result


def test_progress_counts_what_is_through(engine: Engine) -> None:
    counts: list[int] = []
    list(Many(engine)(["a", "bad", "bb"], on_error="yield", progress=counts.append))
    assert counts == [1, 2, 3]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_seeds_do_not_depend_on_the_batches(engine: Engine, size: int) -> None:
    prompts = ["a", "a", "bb", Prompt(text="a", seed=11), "a"]
    drawn = Many(engine, temperature=5.0, seed=3)(prompts, batch_size=size, in_order=True)
    answers = [item.result for item in drawn]
    assert answers[0].seed == 3
    assert answers[3].seed == 11
    assert len({answers[0].seed, answers[1].seed, answers[4].seed}) == 3
    for answer, prompt in zip(answers, prompts, strict=True):
        ids = IDS[prompt if isinstance(prompt, str) else prompt.text or ""]
        (alone,) = engine.generate_ids([ids], max_new_tokens=4, temperature=5.0, seed=answer.seed)
        assert alone.token_ids == answer.token_ids


def test_beams_search_every_batch(engine: Engine) -> None:
    results = list(Many(engine, num_beams=2)(["a", "bb"], in_order=True))
    alone = engine.generate_ids([[3], [3, 7]], max_new_tokens=4, num_beams=2)
    assert [item.result.token_ids for item in results] == [item.token_ids for item in alone]


@pytest.mark.parametrize(
    "fields", [{}, {"text": "a", "messages": []}, {"text": "a", "seed": -1}, {"text": "a", "seed": "x"}]
)
def test_a_prompt_is_one_thing_with_a_seed(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Prompt(**fields)


def test_a_list_is_read_on_while_rows_are_computed_and_a_source_that_may_wait_is_not(engine: Engine) -> None:
    names = ["bb"] * 20
    listed, awaited = Many(engine), Many(engine)
    assert len(list(listed(names, batch_size=1))) == len(list(awaited(iter(names), batch_size=1))) == 20
    assert listed.batches == [[2]]
    assert awaited.batches == [[2], [2]]


def test_a_longer_prompt_that_is_read_later_begins_a_batch_with_room_for_it(engine: Engine) -> None:
    many = Many(engine)
    names = ["a"] * 20 + ["dddd"] * 13
    results = {item.index: item.result.token_ids for item in many(names, batch_size=1)}
    assert many.batches == [[1], [4]]
    for index, name in enumerate(names):
        assert results[index] == engine.generate_ids([IDS[name]], max_new_tokens=4)[0].token_ids
