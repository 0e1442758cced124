from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.model_defaults import complete_options
from jisu.runtimes.generation.options import OptionChanges, SamplingOptions, changed_options


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": "hot"},
        {"temperature": True},
        {"top_k": -2},
        {"top_k": 1.5},
        {"top_p": -0.1},
        {"top_p": 1.01},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"seed": -1},
        {"max_new_tokens": 0},
        {"seed": 1.0},
        {"max_new_tokens": 10.0},
        {"ignore_eos": "no"},
        {"logprobs": -1},
        {"stop": [""]},
        {"stop": "\udcff"},
        {"stop_ids": [-1]},
        {"logit_bias": {1: math.nan}},
        {"logit_bias": {1: math.inf}},
        {"logits_processors": ["no function"]},
        {"num_beams": 0},
        {"num_beams": 1.5},
        {"length_penalty": math.nan, "num_beams": 2},
        {"early_stopping": "soon", "num_beams": 2},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_named(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}.*allowed"):
        SamplingOptions(**options)  # type: ignore[arg-type]


def test_all_problems_come_at_once() -> None:
    with pytest.raises(InputError, match=r"temperature.*top_k.*top_p"):
        SamplingOptions(temperature=-1, top_k=-2, top_p=2)


def test_good_edges_are_accepted() -> None:
    options = SamplingOptions(
        temperature=9, top_k=1, top_p=1, min_p=1, seed=0, logprobs=0, logit_bias={0: -math.inf}, frequency_penalty=-2.0
    )
    assert not options.is_greedy
    assert SamplingOptions(temperature=0).is_greedy


@pytest.mark.parametrize("options", [{"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1}], ids=str)
def test_an_option_that_nothing_reads_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} would have no effect.*Set a temperature"):
        SamplingOptions(**options).check_use()  # type: ignore[arg-type]
    # Zero says that the most likely token is meant, whatever the other options of a client are.
    assert SamplingOptions(temperature=0, **options).is_greedy  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"top_p": 1}, {"top_p": 1.0, "top_k": 0, "min_p": 0}, {"top_k": -1}, {"seed": 42}, {"seed": 2**4000}]
)
@pytest.mark.parametrize("temperature", [None, 0, 0.0])
def test_what_changes_nothing_is_taken(temperature: float | None, options: dict[str, float]) -> None:
    made = complete_options(SamplingOptions(temperature=temperature, **options), {})  # type: ignore[arg-type]
    assert made.is_greedy
    assert (made.top_p, made.top_k, made.min_p) == (None, None, None)


def test_none_means_not_given() -> None:
    names = {field.name for field in dataclasses.fields(SamplingOptions)}
    assert SamplingOptions(**dict.fromkeys(names)) == SamplingOptions()  # type: ignore[arg-type]
    assert changed_options(SamplingOptions(stop="x"), {"stop": None}).stop == ()


def test_ids_may_be_spelled_as_json_has_them() -> None:
    assert SamplingOptions(logit_bias={"42": -1.0, 7: 2}).logit_bias == {42: -1.0, 7: 2}  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"logit_bias token is 'x'"):
        SamplingOptions(logit_bias={"x": 1.0})  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"logit_bias.*\[\(1, 2"):
        SamplingOptions(logit_bias=[(1, 2.0)])  # type: ignore[arg-type]


def test_sets_and_arrays_are_several_values() -> None:
    assert sorted(SamplingOptions(stop={"a", "b"}).stop) == ["a", "b"]  # type: ignore[arg-type]
    assert SamplingOptions(stop_ids=np.array([3, 4])).stop_ids == (3, 4)  # type: ignore[arg-type]


def test_a_seed_is_drawn_only_where_it_is_needed() -> None:
    drawing = SamplingOptions(temperature=1.0)
    assert drawing.with_seed().seed != drawing.with_seed().seed
    assert SamplingOptions(temperature=1.0, seed=7).with_seed().seed == 7
    assert SamplingOptions().with_seed().seed is None


def test_single_values_are_taken_for_lists() -> None:
    options = changed_options(None, {"stop": "x", "stop_ids": 3})
    assert options.stop == ("x",)
    assert options.stop_ids == (3,)


def test_an_unknown_option_names_the_nearest_one() -> None:
    with pytest.raises(InputError, match="Did you mean temperature"):
        changed_options(None, {"temprature": 1.0})  # type: ignore[typeddict-unknown-key]


def test_keyword_arguments_are_the_fields() -> None:
    assert set(OptionChanges.__annotations__) == {field.name for field in dataclasses.fields(SamplingOptions)}


@pytest.mark.parametrize("options", [{"temperature": 0.5}, {"stop": "."}, {"logprobs": 0}, {"logprobs": 2}], ids=str)
def test_beams_refuse_what_they_cannot_follow(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"Beam search cannot use {next(iter(options))}"):
        SamplingOptions(num_beams=2, **options).check_use()  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"length_penalty": 2.0}, {"early_stopping": False}], ids=str)
@pytest.mark.parametrize("beams", [None, 1])
def test_without_beams_their_options_are_refused(beams: int | None, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} would have no effect without beam search"):
        SamplingOptions(num_beams=beams, **options).check_use()  # type: ignore[arg-type]


def test_one_beam_is_no_search() -> None:
    assert not SamplingOptions(num_beams=1, temperature=0.5).searches
    assert SamplingOptions(num_beams=2, early_stopping="never").searches
