from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.chat.messages import ChatRequest
from jisu.runtimes.chat.shown_parts import check_shown_parts


def message(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": list(parts)}]


TEXT = {"type": "text", "text": "What is it?"}


def test_parts_that_a_model_reads_pass() -> None:
    check_shown_parts(message({"type": "image"}, TEXT), IMAGE_TEXT)
    check_shown_parts(ChatRequest(messages=message({"type": "audio"}, TEXT)), AUDIO_TEXT)
    check_shown_parts(message(TEXT), "text-generation")


@pytest.mark.parametrize(("kind", "part"), [(IMAGE_TEXT, "audio"), (AUDIO_TEXT, "image"), ("text-generation", "image")])
def test_parts_that_a_model_does_not_read_are_refused(kind: Any, part: str) -> None:
    with pytest.raises(InputError, match=rf'does not read .*the type "{part}"\. Allowed: parts of the type text'):
        check_shown_parts(message(TEXT, {"type": part}), kind)


@pytest.mark.parametrize("key", ["url", "path", "image"])
def test_an_image_within_a_message_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=rf"given beside the messages.*Leave out {key}, .*images=\[\.\.\.\]"):
        check_shown_parts(ChatRequest(messages=message({"type": "image", key: "cat.png"}, TEXT)), IMAGE_TEXT)
