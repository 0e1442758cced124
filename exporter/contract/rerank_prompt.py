"""What a model is asked about a query and a document, as data: pieces of text with places for what is put in.

Standard library only. Each piece is encoded by itself and the token ids are joined, because the recipes that models
were trained with cut their prompts in different places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INSTRUCTION, QUERY, DOCUMENT = "instruction", "query", "document"
SLOTS = (INSTRUCTION, QUERY, DOCUMENT)
_SLOT = re.compile("{(" + "|".join(SLOTS) + ")}")


@dataclass(frozen=True, kw_only=True)
class RerankPrompt:
    """The prompt of a reranker.

    Attributes:
        pieces: text in which ``{query}`` and ``{document}`` stand once each, and control tokens as they are written.
        instructed: the same with an ``{instruction}``; none where the model takes no instructions.
        trims: whether spaces around what is put in are left out.
    """

    pieces: tuple[str, ...]
    instructed: tuple[str, ...] = ()
    trims: bool = False

    def __post_init__(self) -> None:
        problems = [slot_problem(self.pieces, needed=(QUERY, DOCUMENT))]
        if self.instructed:
            problems.append(slot_problem(self.instructed, needed=SLOTS))
        if any(problems):
            raise ValueError("; ".join(filter(None, problems)))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RerankPrompt:
        """From JSON; raises ValueError, TypeError or KeyError for anything but what `dataclasses.asdict` gives."""
        known = {"pieces", "instructed", "trims"}
        listed = [record["pieces"], record.get("instructed", [])]
        texts = all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in listed)
        if set(record) - known or not texts or not isinstance(record.get("trims", False), bool):
            raise ValueError(f"the prompt {str(record)[:80]} is none")
        return cls(pieces=tuple(listed[0]), instructed=tuple(listed[1]), trims=record.get("trims", False))


def split_slots(piece: str) -> list[tuple[str | None, str]]:
    """The parts of a piece in their order: (None, text), or (name of a slot, nothing)."""
    parts: list[tuple[str | None, str]] = []
    for index, text in enumerate(_SLOT.split(piece)):
        if index % 2:
            parts.append((text, ""))
        elif text:
            parts.append((None, text))
    return parts


def slot_problem(pieces: Sequence[str], *, needed: Sequence[str]) -> str | None:
    """What is wrong with the slots of a prompt, in words; None when those needed are there once, and no other."""
    counts = Counter(name for piece in pieces for name, _ in split_slots(piece) if name is not None)
    wrong = [f"{{{name}}} {counts[name]} times" for name in SLOTS if counts[name] != (name in needed)]
    return f"{', '.join(wrong)} in the prompt" if wrong else None
