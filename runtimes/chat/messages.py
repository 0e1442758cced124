"""What a caller may hand to a chat template: messages, tools, documents and the template's own variables."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.generation.prompts import is_listed, is_unicode

ROLES = ("system", "developer", "user", "assistant", "tool")
Message = Mapping[str, Any]
# Values that say what a thing is, and that a template compares with its own words: no text of anybody's.
_STRUCTURE = ("role", "type")
_RESERVED = ("messages", "tools", "documents", "add_generation_prompt")

# Types of parts of a message that are no text; what they stand for is given beside the messages.
SHOWN_PARTS = {"image": "an image", "audio": "a recording"}


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One conversation to render.

    Args:
        messages: ``{"role": ..., "content": text}`` in order. The content may be a list of
            ``{"type": "text", "text": text}``, ``{"type": "image"}`` and ``{"type": "audio"}``, or None beside
            ``tool_calls``; the template gets other keys as they are.
        tools: JSON schemas of functions that the model may call, as the template expects them.
        documents: texts to answer from, the same.
        variables: further names that the template reads, such as ``enable_thinking``.
        continue_final_message: end the prompt within the last message, the assistant's, which the answer continues.

    Raises:
        InputError: something else than these.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None = None
    documents: Sequence[Mapping[str, Any]] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    continue_final_message: bool = False

    def __post_init__(self) -> None:
        _check_messages(self.messages)
        for name in ("tools", "documents"):
            _check_mappings(getattr(self, name), name)
        if not isinstance(self.variables, Mapping) or any(not isinstance(name, str) for name in self.variables):
            raise InputError(
                "The template variables are not a mapping",
                received=shown(self.variables),
                allowed="name -> value",
                fix="Give a dictionary.",
            )
        reserved = [name for name in self.variables if name in _RESERVED]
        if reserved:
            raise InputError(
                f"{', '.join(reserved)} cannot be template variables",
                received=", ".join(self.variables),
                allowed="other names that the template reads",
                fix="Give messages, tools and documents by the arguments of these names.",
            )
        if self.continue_final_message and self.messages[-1].get("role") != "assistant":
            raise InputError(
                "Only a message of the assistant can be continued",
                received=f"a last message of the role {self.messages[-1].get('role')}",
                allowed="a last message of the role assistant",
                fix="Add the beginning of the answer as the last message, or leave continue_final_message out.",
            )

    def check_read(self, names: Iterable[str]) -> None:
        """Raise InputError for something that a template, which reads these names, would pass over in silence."""
        known = sorted(set(names))
        fields = [
            *(["tools"] if self.tools else []),
            *(["documents"] if self.documents else []),
            *self.variables,
        ]
        unread = [name for name in fields if name not in known]
        if unread:
            near = difflib.get_close_matches(unread[0], known, n=1)
            raise InputError(
                f"The model's chat template does not read {', '.join(unread)}",
                received=", ".join(fields),
                allowed=", ".join(known) or "no variables",
                fix=f"Did you mean {near[0]}?" if near else "Leave it out, or tell the model in a message.",
            )

    def mapped(self, change: Callable[[int, str], str]) -> ChatRequest:
        """The same with every text that is data replaced by ``change(number, text)``; the texts are numbered in order.

        Data are all strings but roles and types, and keys of mappings only where they are nobody's field names.
        """
        walk = _Walk(change)
        changed = object.__new__(ChatRequest)  # what was checked is not checked again: marks belong to no format
        for name, value in (
            ("messages", [walk.fields(message) for message in self.messages]),
            ("tools", None if self.tools is None else [walk.fields(tool) for tool in self.tools]),
            ("documents", None if self.documents is None else [walk.fields(document) for document in self.documents]),
            ("variables", {key: walk.value(value) for key, value in self.variables.items()}),
            ("continue_final_message", self.continue_final_message),
        ):
            object.__setattr__(changed, name, value)
        return changed

    def texts(self) -> list[str]:
        """All texts that are data, as `mapped` numbers them."""
        texts: list[str] = []
        self.mapped(lambda _, text: texts.append(text) or text)  # type: ignore[func-returns-value]
        return texts


class _Walk:
    def __init__(self, change: Callable[[int, str], str]) -> None:
        self._change = change
        self._number = -1

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            self._number += 1
            return self._change(self._number, value)
        if isinstance(value, Mapping):
            return self.fields(value)
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value

    def fields(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        return {key: item if key in _STRUCTURE else self.value(item) for key, item in mapping.items()}


def read_messages(text: str, *, name: str) -> dict[str, Any]:
    """``messages``, and ``tools`` and ``documents`` where they are there, of a JSON text: a list, or an object.

    Raises:
        InputError: no JSON, or something else in it.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} is not JSON",
            received=error,
            allowed="a list of messages",
            fix="Correct the JSON.",
        ) from error
    record = {"messages": content} if isinstance(content, list) else content
    known = ("messages", "tools", "documents")
    if not isinstance(record, dict) or "messages" not in record or any(key not in known for key in record):
        raise InputError(
            f"{name} holds no messages",
            received=shown(list(record) if isinstance(record, dict) else record),
            allowed='a list of messages, or {"messages": [...], "tools": [...], "documents": [...]}',
            fix="Write the file in one of these forms.",
        )
    return record


def _check_messages(messages: object) -> None:
    listed = messages if is_listed(messages) else [messages]
    wrong = [f"message {index} is {shown(message)}" for index, message in enumerate(listed) if not _is_message(message)]
    if wrong or not len(listed) or listed is not messages:
        roles = " | ".join(f'"{role}"' for role in ROLES)
        raise InputError(
            "These are not chat messages",
            received="; ".join(wrong) or ("no message" if not len(listed) else "one message"),
            allowed=f'a list of {{"role": {roles}, "content": text}}, or a content of parts of the types '
            f"{', '.join(('text', *SHOWN_PARTS))}",
            fix="Give a list, and each message a role and a text.",
        )


def _is_message(message: object) -> bool:
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        return False
    content = message.get("content")
    if content is None:
        return message["role"] == "assistant" and bool(message.get("tool_calls"))
    if isinstance(content, list):
        return bool(content) and all(_is_part(part) for part in content)
    return isinstance(content, str)


def _is_part(part: object) -> bool:
    """A text, or the place of an image or a recording, which is given beside the messages."""
    if not isinstance(part, Mapping):
        return False
    return part.get("type") in SHOWN_PARTS or (part.get("type") == "text" and isinstance(part.get("text"), str))


def _check_mappings(values: object, name: str) -> None:
    if values is None:
        return
    if not is_listed(values) or any(not isinstance(value, Mapping) for value in values):
        raise InputError(
            f"The {name} are not JSON objects",
            received=shown(values),
            allowed='a list of objects, such as {"type": "function", "function": {"name": ..., "parameters": ...}}',
            fix="Describe each of them as a JSON object; a Python function itself is not accepted.",
        )


def check_unicode(texts: Iterable[str]) -> None:
    """Raise InputError for a text that no tokenizer takes."""
    for text in texts:
        if not is_unicode(text):
            raise InputError(
                "The text is not Unicode",
                received=shown(text),
                allowed="text that UTF-8 can write; lone surrogates stand for bytes that were no UTF-8",
                fix="Correct the text, or convert it to UTF-8.",
            )
