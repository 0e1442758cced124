"""Chat messages to one prompt, through the model's own Jinja template in a sandbox: it is a program of a stranger.

Bounded are the steps of loops and macros, the length of a range, the size of products, powers and formatted texts, and
the length of the prompt. Not bounded is what one call of a text's own method or one filter makes (``ljust``,
``replace``), nor a text that is joined to itself again and again; memory that runs out is an error like any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from exporter.contract.errors import InputError
from runtimes.generation.prompts import is_listed, shown
from runtimes.generation.text import read_tokenizer_config, special_token_texts

CHAT_TEMPLATE = "chat_template.jinja"
ROLES = ("system", "user", "assistant")
Message = Mapping[str, Any]

# A template takes a step for each round of a loop and each call of a macro; real ones take a few for each message.
MOST_STEPS = 1_000_000
LONGEST_PROMPT = 10_000_000  # characters
# A width or precision of five digits or more, or one that an argument gives: printf-style formatting, as % does it.
_LONG_WIDTH = re.compile(r"%[^a-zA-Z%]*(\d{5}|\*)")
# A template can fail in any way an expression can: adding text to None, a missing key, a macro that calls itself.
_FAILURES = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    SyntaxError,
    MemoryError,
    RecursionError,
    NotImplementedError,
)


class ChatTemplate:
    """A compiled template.

    Args:
        source: the template's text.
        special_tokens: names such as ``bos_token`` and their text, visible in the template.

    Raises:
        InputError: the template has a syntax error, or is nested too deeply to be read.
    """

    def __init__(self, source: str, *, special_tokens: Mapping[str, str]) -> None:
        from jinja2 import TemplateError

        self._special_tokens = dict(special_tokens)
        try:
            self._template = _environment().from_string(source)
        except (TemplateError, *_FAILURES) as error:
            raise _template_error(error) from error

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt that asks for the assistant's next message.

        Raises:
            InputError: no messages, a message without one of `ROLES` or without text, or the template refuses them,
                fails, or exceeds the bounds of this file.
        """
        from jinja2 import TemplateError

        _check_messages(messages)
        pieces: list[str] = []
        length = 0
        try:
            self._template.environment.steps = 0
            for piece in self._template.generate(
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                tools=None,
                documents=None,
                **self._special_tokens,
            ):
                pieces.append(piece)
                length += len(piece)
                if length > LONGEST_PROMPT:
                    _refuse(f"a prompt of more than {LONGEST_PROMPT} characters")
            return "".join(pieces)
        except (TemplateError, *_FAILURES) as error:
            raise _template_error(error) from error


def open_chat_template(folder: Path) -> ChatTemplate | None:
    """The chat template of an artifact, from its own file or the tokenizer's configuration; None when it has none."""
    path = folder / CHAT_TEMPLATE
    try:
        source: object = path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise _template_error(error) from error
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

    class BoundedEnvironment(ImmutableSandboxedEnvironment):
        """Counts steps, and computes no number or text that is larger than any prompt."""

        intercepted_binops = frozenset({"*", "**", "%"})
        steps = 0

        def count_step(self) -> None:
            self.steps += 1
            if self.steps > MOST_STEPS:
                _refuse(f"more than {MOST_STEPS} steps")

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree = super()._parse(source, name, filename)
            for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
                step = nodes.Call(nodes.EnvironmentAttribute("count_step"), [], [], None, None)
                statement = nodes.ExprStmt(step, lineno=block.lineno)
                statement.set_environment(self)
                block.body.insert(0, statement)  # type: ignore[attr-defined]
            return tree

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "*":
                _check_product(left, right)
                _check_product(right, left)
            elif operator == "**" and not (abs(left) < 1 << 64 and abs(right) <= 64):
                _refuse("a power of large numbers")
            elif operator == "%" and isinstance(left, str) and _LONG_WIDTH.search(left):
                _refuse("a text formatted to a great width")
            return super().call_binop(context, operator, left, right)

    class GenerationBlock(Extension):
        """``{% generation %}`` marks the assistant's words for training; here its inside is all that matters."""

        tags = {"generation"}  # noqa: RUF012  (the attribute's type is given by the base class)

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return body

    environment = BoundedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationBlock])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    return environment


def _check_product(one: Any, other: Any) -> None:
    """Raise when a text or list would be repeated to more than a prompt's length, or numbers grow beyond 4096 bits."""
    if isinstance(one, (str, bytes, list, tuple)) and isinstance(other, int) and len(one) * other > LONGEST_PROMPT:
        _refuse(f"a repetition to more than {LONGEST_PROMPT} elements")
    if isinstance(one, int) and isinstance(other, int) and one.bit_length() + other.bit_length() > 4096:
        _refuse("a product of large numbers")


def _tojson(value: object, indent: int | None = None) -> str:
    """JSON without the escapes that Jinja's own filter makes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
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
