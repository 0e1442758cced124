"""Parts of messages that stand for images and recordings: which a model has, and that what they show lies elsewhere.

A chat template passes over a part that it does not know without a word, and the answer would be about something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT, ModelKind
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.chat.messages import SHOWN_PARTS, ChatRequest, Message

_READ_BY: Mapping[str, ModelKind] = {"image": IMAGE_TEXT, "audio": AUDIO_TEXT}
_GIVEN_AS = {"image": "images=[...], or --image FILE", "audio": "audios=[...], or --audio FILE"}
# Keys under which other programs take what a part shows; nothing here would read it.
_CONTENTS = ("url", "path", "base64", "image", "image_url", "audio", "audio_url")


def check_shown_parts(messages: Sequence[Message] | ChatRequest, kind: ModelKind) -> None:
    """Raise InputError for a part that a model of this kind does not read, or that holds what it shows itself."""
    for part in _shown_parts(messages.messages if isinstance(messages, ChatRequest) else messages):
        name = part["type"]
        if kind != _READ_BY[name]:
            read = ["text", *(one for one, reader in _READ_BY.items() if reader == kind)]
            raise InputError(
                f"This model does not read {SHOWN_PARTS[name]}",
                received=f'a part of a message of the type "{name}"',
                allowed=f"parts of the type {' or '.join(read)}",
                fix="Leave the part out, or export a model that reads it.",
            )
        held = [key for key in _CONTENTS if key in part]
        if held:
            raise InputError(
                f"A part of a message holds {SHOWN_PARTS[name]}, which is given beside the messages",
                received=shown(dict(part)),
                allowed=f'{{"type": "{name}"}}',
                fix=f"Leave out {', '.join(held)}, and give {SHOWN_PARTS[name]} with {_GIVEN_AS[name]}.",
            )


def _shown_parts(messages: Sequence[Message]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, list) else []:
            if isinstance(part, Mapping) and part.get("type") in SHOWN_PARTS:
                yield part
