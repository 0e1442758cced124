"""Raw text -> the words that a model is trained on, and the same for everything it is asked later."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from examples.text_rnn.segmentation import Language, check_language, stop_words, words_of
from jisu import InputError

Punctuation = Literal["keep", "drop"]
PUNCTUATIONS: tuple[Punctuation, ...] = get_args(Punctuation)
# English is written with either; the rules for words know the straight ones.
STRAIGHT_QUOTES = {"‘": "'", "’": "'", "“": '"', "”": '"'}
_STRAIGHTENED = {ord(curly): straight for curly, straight in STRAIGHT_QUOTES.items()}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The steps between text and words, each of them on or off.

    Attributes:
        language: how the text is cut into words.
        lower: write every letter small.
        remove_stop_words: leave out words like "the" and "的". Good for telling texts apart, useless for writing them.
        punctuation: whether marks of punctuation count as words.
    """

    language: Language
    lower: bool = True
    remove_stop_words: bool = False
    punctuation: Punctuation = "keep"

    def __post_init__(self) -> None:
        check_language(self.language)
        if self.punctuation not in PUNCTUATIONS:
            raise InputError(
                "Punctuation cannot be treated this way",
                received=self.punctuation,
                allowed=", ".join(PUNCTUATIONS),
                fix="Choose one of these.",
            )

    def words(self, text: str) -> list[str]:
        """The words of a text, after all the steps."""
        text = unicodedata.normalize("NFC", text)
        if self.lower:
            text = text.lower()
        if self.language == "en":
            text = text.translate(_STRAIGHTENED)
        words = words_of(text, self.language)
        if self.punctuation == "drop":
            words = [word for word in words if not is_punctuation(word)]
        if self.remove_stop_words:
            common = stop_words(self.language)
            words = [word for word in words if word.lower() not in common]
        return words

    def prepare(self, text: str) -> str:
        """The words with a space between them: what the tokenizer is given, in Chinese too."""
        return " ".join(self.words(text))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_dict` wrote; raises InputError for a missing or unknown step."""
        names = {field.name for field in fields(cls)}
        if set(data) != names:
            raise InputError(
                "The preprocessing steps cannot be read",
                received=", ".join(sorted(set(data) ^ names)),
                allowed=f"exactly {', '.join(sorted(names))}",
                fix="Prepare the data again with this version.",
            )
        return cls(**data)


def is_punctuation(word: str) -> bool:
    """Whether there is no letter, digit or other word character in it; Unicode's categories P and S."""
    return all(unicodedata.category(character)[0] in "PS" for character in word)
