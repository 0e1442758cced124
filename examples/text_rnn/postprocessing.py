"""A model's answer -> what a reader sees. The tokenizer's decoder has joined the words; this is the polish after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from examples.text_rnn.segmentation import Language

_ENDS = ".!?"


def tidy(text: str, language: Language) -> str:
    """A whole text: trimmed, in English with single spaces and a capital at the beginning of each sentence.

    Chinese is written without spaces; those between Latin words and numbers stay.
    """
    return "".join(tidy_pieces([text], language))


def tidy_pieces(pieces: Iterable[str], language: Language) -> Iterator[str]:
    """The same for a text that comes in pieces, each of them as soon as it can be shown.

    Space is held back until something follows it, so that none is left at the end.
    """
    before, waiting, begins = "", False, True
    for piece in pieces:
        shown = ""
        for character in piece:
            if character.isspace():
                waiting = True
                begins = begins or before in _ENDS
                continue
            if waiting and before and (language == "en" or (before.isascii() and character.isascii())):
                shown += " "
            if language == "en" and begins and character.isalpha():
                character = character.upper()
            begins = begins and not character.isalnum()
            before, waiting = character, False
            shown += character
        if shown:
            yield shown


def format_prediction(probabilities: Mapping[str, float]) -> str:
    """The most likely label, and the probability of each: ``good (good 98.3%, bad 1.7%)``."""
    ranked = sorted(probabilities.items(), key=lambda pair: -pair[1])
    return f"{ranked[0][0]} ({', '.join(f'{label} {probability:.1%}' for label, probability in ranked)})"
