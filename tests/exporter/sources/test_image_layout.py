"""What a processor writes around a text is learnt, or refused where it follows no known rule."""

from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.image_layout import layout_of


class Processor:
    """Writes around a text as it is told, and its tokenizer adds a token or not."""

    def __init__(self, write: Any, *, special: bool = False) -> None:
        self._write, self._special = write, special

    def prepare_inputs_layout(self, images: Any, text: list[str]) -> tuple[Any, list[str], None, None]:
        return images, [self._write(one) for one in text], None, None

    def tokenizer(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [0, 7] if self._special and add_special_tokens else [7]}


def behind_the_last(text: str) -> str:
    head, mark, tail = text.rpartition("<i>")
    return f"{head}{mark}<s>{tail}\n"


def test_most_processors_write_nothing() -> None:
    assert layout_of(Processor(lambda text: text), mark="<i>") is None
    assert layout_of(object(), mark="<i>") is None


def test_what_is_written_behind_the_last_image_and_at_the_end_is_learnt() -> None:
    assert layout_of(Processor(behind_the_last), mark="<i>") == {"before": "", "mark": "<s>", "end": "\n"}
    assert layout_of(Processor(lambda text: f"Q: {text}"), mark="<i>") == {"before": "Q: ", "mark": "", "end": ""}


@pytest.mark.parametrize("write", [str.upper, lambda text: text.replace("<i>", "<i>,"), lambda text: ""])
def test_another_rule_is_refused(write: Any) -> None:
    with pytest.raises(InputError, match="changes the text of a prompt"):
        layout_of(Processor(write), mark="<i>")


def test_a_tokenizer_that_adds_tokens_besides_is_refused() -> None:
    with pytest.raises(InputError, match="both write"):
        layout_of(Processor(behind_the_last, special=True), mark="<i>")
