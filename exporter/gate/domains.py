"""The held-out texts that quality is judged on: several domains, written for this project and used for nothing else.

Calibration never sees them, and nothing is tuned on them: what a budget says of them it says of text that a model was
not fitted to. A user's own text takes their place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Kind = Literal["prose", "language", "code", "markup", "chat", "own", "random"]
Conversation = Sequence[Mapping[str, str]]

_FOLDER = "held_out_texts"
_SEPARATOR = "\n%%\n"
CHAT = "chat"
# Every text in the folder by the name of its file; several kinds of English, then languages in their scripts.
BUILT_IN: dict[str, Kind] = {
    "english-encyclopedia": "prose",
    "english-story": "prose",
    "english-legal": "prose",
    "english-news": "prose",
    "arabic": "language",
    "chinese": "language",
    "french": "language",
    "german": "language",
    "greek": "language",
    "hindi": "language",
    "japanese": "language",
    "korean": "language",
    "portuguese": "language",
    "russian": "language",
    "spanish": "language",
    "vietnamese": "language",
    "cpp": "code",
    "javascript": "code",
    "python": "code",
    "rust-go-java": "code",
    "shell-sql-html": "code",
    "numbers-and-markup": "markup",
    CHAT: "chat",
}


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One kind of text.

    Attributes:
        name: in checks, manifests and reports.
        passages: texts of different subjects and forms; of ``chat`` empty.
        conversations: of ``chat``: messages with ``role`` and ``content``.
    """

    name: str
    kind: Kind
    passages: tuple[str, ...] = ()
    conversations: tuple[Conversation, ...] = ()

    @property
    def text(self) -> str:
        """All of it as plain text; the messages of a conversation under each other."""
        return "\n\n".join((*self.passages, *map(plain, self.conversations)))


@cache
def built_in_domains() -> tuple[Domain, ...]:
    """Every domain of `BUILT_IN`, in its order."""
    folder = files("jisu.exporter.gate") / _FOLDER
    domains = []
    for name, kind in BUILT_IN.items():
        if kind == "chat":
            conversations = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            domains.append(Domain(name=name, kind=kind, conversations=tuple(conversations)))
        else:
            text = (folder / f"{name}.txt").read_text(encoding="utf-8")
            passages = tuple(passage.strip("\n") for passage in text.split(_SEPARATOR))
            domains.append(Domain(name=name, kind=kind, passages=passages))
    return tuple(domains)


def held_out_prose() -> str:
    """The built-in English, all kinds of it: what long prompts are cut from."""
    return "\n\n".join(domain.text for domain in built_in_domains() if domain.kind == "prose")


def held_out_text() -> str:
    """All built-in texts: what calibration must not have seen."""
    return "\n\n".join(domain.text for domain in built_in_domains())


def plain(conversation: Conversation) -> str:
    """A conversation as text, for a model without a chat template."""
    return "\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in conversation)
