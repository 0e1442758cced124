"""Chat messages to one prompt, through the model's own Jinja template in a bounded sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.chat.data_marks import TracedPrompt, trace_prompt, unused_character
from jisu.runtimes.chat.messages import ROLES, SHOWN_PARTS, ChatRequest, Message
from jisu.runtimes.chat.template_budget import LONGEST_PROMPT, begin_budget, refuse
from jisu.runtimes.chat.template_sandbox import frozen_now, looked_for, read_variables, sandbox
from jisu.runtimes.generation.text import read_tokenizer_config, special_token_texts

__all__ = ["CHAT_TEMPLATE", "ROLES", "ChatRequest", "ChatTemplate", "Message", "open_chat_template"]

CHAT_TEMPLATE = "chat_template.jinja"
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
_PROBE = "probe"


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

        self._source = source
        self._special_tokens = dict(special_tokens)
        begin_budget()
        try:
            environment = sandbox()
            self._template = environment.from_string(source)
            self._reads = read_variables(environment, source)
            self._looked_for = looked_for(environment, source)
        except (TemplateError, *_FAILURES) as error:
            raise _template_error(error) from error
        self._takes_parts: bool | None = None
        self._takes_texts: bool | None = None

    def render(self, messages: Sequence[Message] | ChatRequest, *, now: datetime | None = None) -> str:
        """The prompt that asks for the assistant's next message, or for the rest of its last one.

        Args:
            now: what a template that writes the date is told; the time of day it is when None.

        Raises:
            InputError: no messages, a message without a role or a text, something that the template does not read, or
                the template refuses them, fails, or exceeds the bounds of its sandbox.
        """
        return self._render(self._prepared(messages), now or datetime.now())

    def write(self, messages: Sequence[Message], *, asks: bool, variables: Mapping[str, Any]) -> str:
        """A rendering of messages of any roles, such as the query and the document of a reranker's template.

        Args:
            asks: let the template add what comes before an answer.
            variables: further names that it may read.

        Raises:
            InputError: the template refuses them, fails, or exceeds the bounds of its sandbox.
        """
        request = ChatRequest(messages=[{"role": "user", "content": _PROBE}], variables=variables)
        return self._run(messages, request, datetime.now(), asks=asks)

    def trace(self, messages: Sequence[Message] | ChatRequest, *, controls: Sequence[str]) -> TracedPrompt:
        """The same, with the places of what came from the messages and not from the template.

        Args:
            controls: texts of the tokenizer's control tokens.
        """
        request, now = self._prepared(messages), datetime.now()
        plain = self._render(request, now)
        if not any(control in plain for control in controls):
            return TracedPrompt(text=plain, ends=())
        return trace_prompt(
            lambda marked: self._try(marked, now),
            request,
            plain,
            controls=controls,
            looked_for=self._looked_for,
            used=self._source + "".join(self._special_tokens.values()),
        )

    def turns(self) -> str:
        """A conversation of harmless words without a question at its end; nothing where the template refuses all."""
        user: Message = {"role": "user", "content": _PROBE}
        requests = [ChatRequest(messages=messages) for messages in ([user], [{**user, "role": "system"}, user])]
        now = datetime.now()
        return "".join(self._try(request, now, asks=False) for request in requests)

    def _prepared(self, messages: Sequence[Message] | ChatRequest) -> ChatRequest:
        request = messages if isinstance(messages, ChatRequest) else ChatRequest(messages=messages)
        request.check_read(self._reads)
        contents = [message.get("content") for message in request.messages]
        if any(isinstance(content, list) for content in contents) and not self._reads_parts():
            return _joined_parts(request)
        if any(isinstance(content, str) for content in contents) and not self._reads_texts() and self._reads_parts():
            return replace(request, messages=[_as_part(message) for message in request.messages])
        return request

    def as_read(self, messages: Sequence[Message]) -> list[Message]:
        """Messages as the template is given them: some take no contents that are texts, and some no lists of parts."""
        return list(self._prepared(messages).messages)

    def _reads_texts(self) -> bool:
        """Whether the template writes contents that are texts; one that looks for parts alone passes them over."""
        if "type" not in self._source:  # the key by which parts are told apart
            return True
        if self._takes_texts is None:
            request = ChatRequest(messages=[{"role": "user", "content": _PROBE}])
            self._takes_texts = _PROBE in self._try(request, datetime.now())
        return self._takes_texts

    def _reads_parts(self) -> bool:
        """Whether the template takes contents that are lists, and does not write them out as such."""
        if self._takes_parts is None:
            request = ChatRequest(messages=[{"role": "user", "content": [{"type": "text", "text": _PROBE}]}])
            text = self._try(request, datetime.now())
            self._takes_parts = _PROBE in text and "'type'" not in text and '"type"' not in text
        return self._takes_parts

    def _try(self, request: ChatRequest, now: datetime, *, asks: bool = True) -> str:
        """The rendering of a request that is not the caller's, empty where the template refuses it."""
        try:
            return self._render(request, now, asks=asks)
        except InputError:
            return ""

    def _render(self, request: ChatRequest, now: datetime, *, asks: bool = True) -> str:
        if not request.continue_final_message:
            return self._run(request.messages, request, now, asks=asks)
        # What stands behind the last message, an end token say, is the template's and is cut off.
        mark = unused_character(self._source, *request.texts())
        *before, last = request.messages
        text = self._run([*before, _with_end(last, mark + " ")], request, now, asks=False)
        cut = text.rfind(mark)
        if cut < 0:
            raise InputError(
                "The model's chat template does not show the last message",
                received="continue_final_message",
                allowed="a template that writes the assistant's messages as they are",
                fix="Leave continue_final_message out.",
            )
        # A template that trims the message would have trimmed it without the mark, too.
        trimmed = text[cut + 1 : cut + 2] != " "
        # One that writes the message more than once has the mark there, too.
        text = text[:cut].replace(mark + " ", "").replace(mark, "")
        return text.rstrip() if trimmed else text

    def _run(self, messages: Sequence[Message], request: ChatRequest, now: datetime, *, asks: bool) -> str:
        from jinja2 import TemplateError

        pieces: list[str] = []
        length = 0
        try:
            begin_budget(messages, request.tools, request.documents, request.variables)
            names: dict[str, Any] = {**self._special_tokens, "strftime_now": frozen_now(now), **request.variables}
            for piece in self._template.generate(
                names,
                messages=[dict(message) for message in messages],
                add_generation_prompt=asks,
                tools=request.tools,
                documents=request.documents,
            ):
                pieces.append(piece)
                length += len(piece)
                if length > 2 * LONGEST_PROMPT:  # with a mark behind every character
                    refuse(f"a prompt of more than {LONGEST_PROMPT} characters")
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


def _joined_parts(request: ChatRequest) -> ChatRequest:
    """The request with contents that are lists as one text each, a part a line; raises InputError for others."""
    parts = [
        part for message in request.messages if isinstance(message.get("content"), list) for part in message["content"]
    ]
    if shown := next((part["type"] for part in parts if part["type"] in SHOWN_PARTS), None):
        raise InputError(
            f"The model's chat template has no place for {SHOWN_PARTS[shown]}",
            received=f"a message with {SHOWN_PARTS[shown]}",
            allowed="messages of text",
            fix="Write the model's own mark into a prompt without the template: jisu generate --raw, or chat=False.",
        )
    messages = [
        {**message, "content": "\n".join(part["text"] for part in message["content"])}
        if isinstance(message.get("content"), list)
        else message
        for message in request.messages
    ]
    return replace(request, messages=messages)


def _as_part(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _with_end(message: Message, end: str) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        *parts, last = content
        ended = (
            [last, {"type": "text", "text": end}]
            if last["type"] in SHOWN_PARTS
            else [{**last, "text": last["text"] + end}]
        )
        return {**message, "content": [*parts, *ended]}
    return {**message, "content": (content or "") + end}


def _template_error(error: Exception) -> InputError:
    return InputError(
        "The model's chat template failed",
        received=f"{type(error).__name__}: {error}",
        allowed="messages that the template accepts",
        fix="Change the messages, or continue a text without the template (jisu generate --raw, or chat=False).",
    )
