"""Keyword arguments of a chat: those of the conversation itself, beside the options of its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

from jisu.runtimes.chat.messages import ChatRequest, Message
from jisu.runtimes.generation.options import OptionChanges, SamplingOptions

# Roles whose messages at the beginning stay whatever is dropped: they tell the model how to behave.
_STAYING = ("system", "developer")


class ChatChanges(OptionChanges, total=False):
    """The fields of `SamplingOptions` and of `runtimes.chat.messages.ChatRequest`, as keyword arguments.

    ``template_variables`` are the request's ``variables``. ``drop_oldest`` leaves the oldest turns out where the
    conversation is too long for the model. ``images`` are those of all ``{"type": "image"}`` in it, in their order,
    ``audios`` the recordings of all ``{"type": "audio"}``.
    """

    tools: Sequence[Mapping[str, Any]] | None
    documents: Sequence[Mapping[str, Any]] | None
    template_variables: Mapping[str, Any] | None
    continue_final_message: bool
    drop_oldest: bool
    images: Sequence[Any] | None
    audios: Sequence[Any] | None


def split_changes(messages: Sequence[Message], changes: ChatChanges) -> tuple[ChatRequest, bool, OptionChanges]:
    """What to render, whether its oldest turns may be left out, and the options of the answer."""
    known = {field.name for field in fields(SamplingOptions)}
    own = set(ChatChanges.__annotations__) - known
    own_fields: dict[str, Any] = {name: value for name, value in changes.items() if name in own}
    drops = bool(own_fields.pop("drop_oldest", False))
    for read_elsewhere in ("images", "audios"):
        own_fields.pop(read_elsewhere, None)
    request = ChatRequest(messages=messages, **request_fields(**own_fields))
    return request, drops, cast("OptionChanges", {name: value for name, value in changes.items() if name not in own})


def request_fields(
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    template_variables: Mapping[str, Any] | None = None,
    continue_final_message: bool = False,
) -> dict[str, Any]:
    """Fields of a `ChatRequest` besides its messages; None means not given."""
    return {
        "tools": tools,
        "documents": documents,
        "variables": template_variables or {},
        "continue_final_message": bool(continue_final_message),
    }


def drop_oldest_turns(messages: Sequence[Message], fits: Callable[[Sequence[Message]], bool]) -> Sequence[Message]:
    """The messages without as many of the oldest turns as have to go; at least the last turn stays.

    A turn begins with a message of the user, so that no answer and no tool's result is left without its question.

    Args:
        fits: whether so much can be answered; with fewer turns it is not less true.
    """
    if fits(messages):
        return messages
    start = next((index for index, message in enumerate(messages) if message["role"] not in _STAYING), len(messages))
    turns = [index for index in range(start + 1, len(messages)) if messages[index]["role"] == "user"]
    low, high = 0, len(turns) - 1
    while low < high:
        middle = (low + high) // 2
        if fits([*messages[:start], *messages[turns[middle] :]]):
            high = middle
        else:
            low = middle + 1
    return [*messages[:start], *messages[turns[low] :]] if turns else messages
