"""Prompts of texts with marks in them: each mark becomes the tokens of an image or of a recording.

It knows the artifact's texts; what a mark stands for comes from whoever reads images, or recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_prompt import ImagePrompt
from jisu.runtimes.generation.prompts import check_prompt, is_listed
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.images.marks import laid_out


@dataclass(frozen=True, kw_only=True)
class MarkWords:
    """How errors speak of what a mark stands for.

    Attributes:
        one: "image" or "recording"; ``some`` several of them.
        part: the type of such a part of a message.
        article: of one.
        fix: how to give one.
    """

    one: str
    some: str
    part: str
    article: str
    fix: str


IMAGE_WORDS = MarkWords(
    one="image",
    some="images",
    part="image",
    article="an",
    fix="Give the image: --image FILE, or generate(prompt, images=[...]).",
)
RECORDING_WORDS = MarkWords(
    one="recording",
    some="recordings",
    part="audio",
    article="a",
    fix="Give the recording: --audio FILE, or generate(prompt, audios=[...]).",
)


class PromptTexts(Protocol):
    """The texts of an artifact: its tokenizer and its chat template."""

    @property
    def has_chat_template(self) -> bool: ...

    @property
    def codec(self) -> TextCodec: ...

    def encode(self, text: str) -> list[int]: ...

    def message_ids(self, messages: Any) -> list[int]: ...


class MarkedPrompts:
    """The prompts of one artifact.

    Args:
        mark: the text of the token that stands for one image or recording.
        token: the id whose places are those of rows of features.
        layout: what surrounds a prompt, see `exporter.contract.image_settings.ImageSettings`.
    """

    def __init__(
        self, text: PromptTexts, words: MarkWords, *, mark: str, token: int, layout: dict[str, str] | None = None
    ) -> None:
        self.text, self._words, self._layout, self._token = text, words, layout, token
        self._mark = mark
        self._mark_id = text.codec.encode(mark, special_tokens=False)[-1]

    def ids(self, text: str, count: int, *, chat: bool | None) -> list[int]:
        """Token ids of a text whose marks are in it, or come before it where there are none.

        Raises:
            InputError: a mark in a text that a chat template puts the images or recordings before.
        """
        check_prompt(text)
        layout = self._layout
        chat = self.text.has_chat_template and layout is None if chat is None else chat
        if not chat:
            whole = text if self._mark in text else self._mark * count + text
            if layout is None:
                return self.text.encode(whole)
            # Its own special tokens are in the layout.
            return self.text.codec.encode(laid_out(whole, self._mark, layout), special_tokens=False)
        if self._mark in text:
            # In a message it would be text: the model would be shown everything before it, and read the mark.
            some, one = self._words.some, self._words.one
            raise InputError(
                f"The prompt has marks for {some}, and the chat template puts {some} before the text",
                received=f"{text.count(self._mark)} times {self._mark} and {count} {one if count == 1 else some}",
                allowed="a text without marks, or a prompt without the chat template",
                fix="Leave the marks out, or pass the prompt as it is: --raw, chat=False.",
            )
        parts = [*({"type": self._words.part} for _ in range(count)), {"type": "text", "text": text}]
        return self.text.message_ids([{"role": "user", "content": parts}])

    def check_count(self, ids: Sequence[int], count: int) -> None:
        """Raise InputError where a prompt has another number of marks than there is to read."""
        marks = sum(token == self._mark_id for token in ids)
        if marks != count:
            some, one = self._words.some, self._words.one
            raise InputError(
                f"The prompt has another number of {some} than marks for them",
                received=f"{marks} times {self._mark} and {count} {some}",
                allowed=f"one {one} for each mark",
                fix=f"Give as many {some}, or leave the marks out: they are then put before the text.",
            )

    def name_of(self, number: int, count: int) -> str:
        """Of one image or recording, in an error."""
        return f"The {self._words.one}" if count == 1 else f"{self._words.one.capitalize()} {number + 1}"

    def tokens(self, text: str, rows: int) -> list[int]:
        """The tokens of the text in the place of a mark; raises InputError where they are not as many as the rows."""
        ids = self.text.codec.encode(text, special_tokens=False)
        tokens = ids.count(self._token)
        if tokens != rows:
            raise InputError(
                f"The {self._words.one} has another number of tokens than of rows of features",
                received=f"{tokens} tokens and {rows} rows",
                allowed="a token for each row",
                fix="Export the model again; one of its files was replaced.",
            )
        return ids

    def expanded(self, ids: Sequence[int], pieces: Sequence[tuple[list[int], npt.NDArray[np.float32]]]) -> ImagePrompt:
        """A prompt in which each mark is replaced by tokens with their rows of features, in their order."""
        following = iter(pieces)
        token_ids: list[int] = []
        for token in ids:
            token_ids += next(following)[0] if token == self._mark_id else [token]
        shown = np.array(token_ids) == self._token
        index = np.where(shown, np.cumsum(shown), 0).astype(np.int64)
        joined = np.concatenate([rows for _, rows in pieces]) if pieces else np.zeros((0, 1), np.float32)
        return ImagePrompt(token_ids=token_ids, features=joined, index=index)

    def check_without(self, ids: Sequence[int]) -> None:
        """Raise InputError for a prompt that has a mark and nothing to read."""
        if self._mark_id in ids or self._token in ids:
            words = self._words
            raise InputError(
                f"The prompt has a mark for {words.article} {words.one}, and no {words.one} is given",
                received=self._mark,
                allowed=f"{words.some} for all marks",
                fix=words.fix,
            )


def listed(some: Any) -> Sequence[Any]:
    """Several images or recordings, or one, as several."""
    return some if is_listed(some) and not isinstance(some, np.ndarray) else [some]
