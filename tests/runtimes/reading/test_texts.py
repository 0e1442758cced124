"""What is no text to be read."""

from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.reading.texts import check_texts


def test_one_text_and_a_list_of_them():
    assert check_texts("a") == ["a"]
    assert check_texts(("a", "b")) == ["a", "b"]


@pytest.mark.parametrize(
    ("texts", "words"), [("", "The text is empty"), (["a", " "], "Text 2 of 2 is empty"), ([[1]], "not a text")]
)
def test_anything_else_is_refused(texts, words):
    with pytest.raises(InputError, match=words):
        check_texts(texts)
