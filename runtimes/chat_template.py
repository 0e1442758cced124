"""Chat messages to one prompt, through the model's own Jinja template in a sandbox: it is a program of a stranger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from exporter.errors import InputError
from runtimes.prompts import is_listed, shown
from runtimes.text import read_tokenizer_config, special_token_texts

CHAT_TEMPLATE = "chat_template.jinja"
ROLES = ("system", "user", "assistant")
Message = Mapping[str, Any]


class ChatTemplate:
    """A compiled template.

    Args:
        source: the template's text.
        special_tokens: names such as ``bos_token`` and their text, visible in the template.

    Raises:
        InputError: the template has a syntax error.
    """

    def __init__(self, source: str, *, special_tokens: Mapping[str, str]) -> None:
        from jinja2 import TemplateError

        self._special_tokens = dict(special_tokens)
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise _template_error(error) from error

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt that asks for the assistant's next message.

        Raises:
            InputError: no messages, a message without one of `ROLES` or without text, or the template refuses them.
        """
        from jinja2 import TemplateError

        _check_messages(messages)
        try:
            prompt: str = self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                tools=None,
                documents=None,
                **self._special_tokens,
            )
            return prompt
        # A template can fail in any way an expression can: adding text to None, a missing key.
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise _template_error(error) from error


def open_chat_template(folder: Path) -> ChatTemplate | None:
    """The chat template of an artifact, from its own file or the tokenizer's configuration; None when it has none."""
    path = folder / CHAT_TEMPLATE
    source: object = path.read_text(encoding="utf-8") if path.is_file() else None
    if source is None:
        source = read_tokenizer_config(folder).get("chat_template")
        if isinstance(source, list):  # several named ones
            named = {item.get("name"): item.get("template") for item in source if isinstance(item, dict)}
            source = named.get("default")
    if not isinstance(source, str):
        return None
    return ChatTemplate(source, special_tokens=special_token_texts(folder))


def _check_messages(messages: object) -> None:
    given = messages if is_listed(messages) else [messages]
    wrong = [f"message {index} is {shown(message)}" for index, message in enumerate(given) if not _is_message(message)]
    if wrong or not given or given is not messages:
        roles = " | ".join(f'"{role}"' for role in ROLES)
        raise InputError(
            "These are not chat messages",
            received="; ".join(wrong) or ("no message" if not given else "one message"),
            allowed=f'a list of {{"role": {roles}, "content": text}}',
            fix="Give a list, and each message a role and a text.",
        )


def _is_message(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("role") in ROLES and isinstance(message.get("content"), str)


def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlock(Extension):
        """``{% generation %}`` marks the assistant's words for training; here its inside is all that matters."""

        tags = {"generation"}  # noqa: RUF012  (the attribute's type is given by the base class)

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return body

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationBlock]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    return environment


def _tojson(value: object, indent: int | None = None) -> str:
    """JSON without the escapes that Jinja's own filter makes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _template_error(error: Exception) -> InputError:
    return InputError(
        "The model's chat template failed",
        received=f"{type(error).__name__}: {error}",
        allowed="messages that the template accepts",
        fix="Change the messages, or continue a text without the template (jisu generate --raw, or chat=False).",
    )
