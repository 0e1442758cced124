from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.shown.marked_prompts import IMAGE_WORDS, MarkedPrompts


class Texts:
    """A token for each character, `#` is the mark; a message is written as its parts."""

    has_chat_template = True

    @property
    def codec(self) -> Any:
        return self

    def encode(self, text: str, special_tokens: bool = True) -> list[int]:
        return [ord(letter) for letter in text]

    def message_ids(self, messages: Any) -> list[int]:
        return self.encode("".join("#" if part["type"] == "image" else part["text"] for part in messages[0]["content"]))


@pytest.fixture
def prompts() -> MarkedPrompts:
    return MarkedPrompts(Texts(), IMAGE_WORDS, mark="#", token=1)


def test_images_come_before_a_text_without_marks(prompts: MarkedPrompts) -> None:
    for chat in (None, True, False):
        assert prompts.ids("what?", 2, chat=chat) == Texts().encode("##what?")


def test_marks_stay_where_they_are_without_a_template(prompts: MarkedPrompts) -> None:
    assert prompts.ids("a # b", 1, chat=False) == Texts().encode("a # b")


@pytest.mark.parametrize("chat", [None, True])
def test_marks_within_a_message_are_refused(prompts: MarkedPrompts, chat: bool | None) -> None:
    with pytest.raises(InputError, match="2 times # and 1 image") as caught:
        prompts.ids("# and #", 1, chat=chat)
    assert "--raw" in str(caught.value)


def test_another_number_of_marks_than_images_is_refused(prompts: MarkedPrompts) -> None:
    with pytest.raises(InputError, match="another number"):
        prompts.check_count(Texts().encode("# and #"), 1)
