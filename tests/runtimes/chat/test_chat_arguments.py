from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.chat.chat_arguments import drop_oldest_turns, split_changes

TURNS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "1"},
    {"role": "assistant", "content": "a"},
    {"role": "tool", "content": "t"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "2"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "3"},
]


@pytest.mark.parametrize(("room", "kept"), [(8, "s1atb2c3"), (7, "s2c3"), (4, "s2c3"), (3, "s3"), (2, "s3"), (1, "s3")])
def test_whole_turns_go_and_the_system_stays(room: int, kept: str) -> None:
    actual = drop_oldest_turns(TURNS, lambda some: len(some) <= room)
    assert "".join(message["content"] for message in actual) == kept


def test_one_turn_is_never_dropped() -> None:
    assert drop_oldest_turns(TURNS[:2], lambda _: False) == TURNS[:2]


def test_arguments_of_the_chat_are_told_from_options() -> None:
    request, drops, options = split_changes(
        TURNS, {"tools": [{"name": "f"}], "template_variables": None, "drop_oldest": True, "max_new_tokens": 3}
    )
    assert (request.tools, request.variables, drops, options) == ([{"name": "f"}], {}, True, {"max_new_tokens": 3})
    with pytest.raises(InputError, match="Only a message of the assistant can be continued"):
        split_changes(TURNS, {"continue_final_message": True})
