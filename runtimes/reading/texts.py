"""What is read as a whole: one text, or a list of them or of pairs of them, none of them empty."""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.generation.prompts import is_listed


def check_texts(texts: object) -> list[str]:
    """One text, or each of several; raises InputError for anything else and for an empty one."""
    checked: list[str] = []
    listed: Any = texts if is_listed(texts) else [texts]
    for number, text in enumerate(listed, start=1):
        if not isinstance(text, str):
            raise InputError(
                "This is not a text",
                received=shown(text),
                allowed="a text, or a list of texts",
                fix="Give token ids to classify_ids or embed_ids, one list for each text.",
            )
        if not text.strip():
            which = "The text" if len(listed) == 1 else f"Text {number} of {len(listed)}"
            raise InputError(f"{which} is empty", received=repr(text), allowed="some text", fix="Leave it out.")
        checked.append(text)
    return checked


def check_texts_or_pairs(texts: object) -> list[str | tuple[str, str]]:
    """The same, where each of several may be a pair: two texts in a tuple or a list of their own."""
    if not is_listed(texts):
        return [*check_texts(texts)]
    checked: list[str | tuple[str, str]] = []
    for number, one in enumerate(texts, start=1):
        if not is_listed(one):
            checked += check_texts([one])
            continue
        if len(one) != 2 or not all(isinstance(text, str) and text.strip() for text in one):
            raise InputError(
                f"Item {number} of {len(texts)} is not a pair of texts",
                received=shown(one),
                allowed="a text, or two texts of which none is empty",
                fix="Correct or leave it out.",
            )
        checked.append((str(one[0]), str(one[1])))
    return checked
