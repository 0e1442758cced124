from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import prompt_name
from jisu.runtimes.generation.prompts import check_id_prompts, check_prompt, check_prompts, is_unicode, token_ids


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (None, "Give a text"),
        (5, "generate_ids"),
        ([1, 2], "generate_ids"),
        ([[1, 2]], "not a prompt"),
        ([{"role": "user", "content": "hi"}], "messages to chat"),
        ({"role": "user", "content": "hi"}, "messages to chat"),
        (b"hi", "Decode"),
        (["hi", None], "Received: None"),
    ],
    ids=str,
)
def test_what_is_no_prompt_is_told_where_it_belongs(wrong: object, advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        check_prompts(wrong)


def test_several_texts_are_no_single_prompt() -> None:
    with pytest.raises(InputError, match="several texts to generate"):
        check_prompt(["a", "b"])


def test_one_text_and_several_are_prompts() -> None:
    assert check_prompts("a") == ["a"]
    assert check_prompts(("a", "b")) == ["a", "b"]


@pytest.mark.parametrize("wrong", [[1, 2], ["ab"], "ab", None, [[1.5]], [[True]], 5], ids=str)
def test_what_is_no_list_of_id_lists_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match="not prompts of token ids"):
        check_id_prompts(wrong)


def test_numpy_ids_are_ids() -> None:
    assert token_ids(np.array([3, 1])) == [3, 1]
    assert check_id_prompts(np.array([[3, 1], [2, 2]])) == [[3, 1], [2, 2]]


def test_bytes_that_were_no_utf8_are_told_from_text() -> None:
    assert is_unicode("世界 🎉")
    assert not is_unicode(b"\xff".decode("utf-8", "surrogateescape"))


def test_a_prompt_has_a_number_only_among_several() -> None:
    assert (prompt_name(0, 1), prompt_name(1, 2)) == ("The prompt", "Prompt 1")
