"""Options of other libraries are taken where they change nothing, and named where they would."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.foreign_options import HARMLESS, OUR_NAME, without_harmless
from jisu.runtimes.generation.options import SamplingOptions, changed_options

FIELDS = {field.name for field in dataclasses.fields(SamplingOptions)}


@pytest.mark.parametrize(
    "option", [{"n": 1}, {"use_cache": True}, {"stream": False}, {"pad_token_id": 7}, {"max_tokens": None}, {"n": None}]
)
def test_what_changes_nothing_is_taken(option: dict[str, Any]) -> None:
    assert without_harmless({**option, "seed": 3}) == {"seed": 3}
    assert changed_options(None, option) == SamplingOptions()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ({"n": 2}, "n=2. .*Leave it out: 1 is all"),
        ({"n": True}, "n=True"),
        ({"use_cache": False}, "True is all that there is"),
        ({"stream": True}, "False is all that there is"),
        ({"max_tokens": 5}, "called max_new_tokens here"),
        ({"top_logprobs": 2}, "called logprobs here"),
        ({"stop_sequences": ["x"]}, "called stop here"),
    ],
)
def test_what_would_change_something_is_named(option: dict[str, Any], advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        changed_options(None, option)  # type: ignore[arg-type]


def test_the_names_are_ours_and_those_of_others() -> None:
    assert set(OUR_NAME.values()) <= FIELDS
    assert not (set(OUR_NAME) | set(HARMLESS)) & FIELDS
