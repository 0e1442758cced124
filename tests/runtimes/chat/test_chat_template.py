from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.chat.chat_template import ChatTemplate, open_chat_template
from tests.runtimes.tiny_text import TEMPLATE

HELLO = [{"role": "user", "content": "你好"}]


def render(source: str) -> str:
    return ChatTemplate(source, special_tokens={"bos_token": "<s>"}).render(HELLO)


def test_messages_become_a_prompt() -> None:
    assert render(TEMPLATE) == "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"


def test_special_tokens_loops_and_json_are_known() -> None:
    assert render("{{ bos_token }}{{ messages | tojson }}") == '<s>[{"role": "user", "content": "你好"}]'
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"
    assert render("{% generation %}a{% endgeneration %}b") == "ab"
    assert render("{{ strftime_now('%Y') | length }}") == "4"
    assert render("{% if tools is none %}no tools{% endif %}") == "no tools"


@pytest.mark.parametrize(
    "source",
    [
        "{% if %}",
        "{{ messages[0].content.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[0]['content'] + 1 }}",
        "{{ 1 // 0 }}",
        "{{ no_such.attribute }}",
        "{% for i in range(10000000) %}{% endfor %}",
    ],
)
def test_a_template_that_fails_or_reaches_out_is_an_input_error(source: str) -> None:
    with pytest.raises(InputError, match="chat template failed"):
        render(source)


def test_the_message_of_a_template_is_passed_on() -> None:
    with pytest.raises(InputError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        ["hi"],
        [{"role": "user"}],
        [{"content": "hi"}],
        [{"role": "human", "content": "hi"}],
        [{"role": ["user"], "content": "hi"}],
        [{"role": "user", "content": None}],
        {"role": "user", "content": "hi"},
        "hi",
        None,
    ],
    ids=str,
)
def test_what_is_no_message_is_refused(messages: list[dict[str, str]]) -> None:
    with pytest.raises(InputError, match="not chat messages"):
        ChatTemplate(TEMPLATE, special_tokens={}).render(messages)


def test_rendering_leaves_the_messages_alone() -> None:
    messages = [{"role": "user", "content": "hi"}]
    ChatTemplate(TEMPLATE, special_tokens={}).render(messages)
    assert messages == [{"role": "user", "content": "hi"}]


def test_the_template_may_stand_in_the_configuration(tmp_path: Path) -> None:
    assert open_chat_template(tmp_path) is None
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"chat_template": "one"}), encoding="utf-8")
    assert open_chat_template(tmp_path).render(HELLO) == "one"  # type: ignore[union-attr]
    named = [{"name": "rag", "template": "no"}, {"name": "default", "template": "two"}]
    path.write_text(json.dumps({"chat_template": named}), encoding="utf-8")
    assert open_chat_template(tmp_path).render(HELLO) == "two"  # type: ignore[union-attr]
    (tmp_path / "chat_template.jinja").write_text("three", encoding="utf-8")
    assert open_chat_template(tmp_path).render(HELLO) == "three"  # type: ignore[union-attr]


BOMBS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops over a text": "{% for a in 'x' * 9999 %}{% for b in 'x' * 9999 %}{% endfor %}{% endfor %}",
    "a loop that writes much": "{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}",
    "a range without end": "{% for i in range(10 ** 12) %}{% endfor %}",
    "a repeated text": "{{ 'a' * (10 ** 11) }}",
    "a repeated list": "{{ [1] * (10 ** 11) }}",
    "a power": "{{ 10 ** (10 ** 9) }}",
    "a wide number": "{{ '%99999999999d' % 1 }}",
    "a width from an argument": "{{ '%*d' % (99999999999, 1) }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro called again and again": (
        "{% macro m() %}{% endmacro %}{% for i in range(9999) %}"
        "{% for j in range(9999) %}{{ m() }}{% endfor %}{% endfor %}"
    ),
    "many parentheses": "{{ " + "(" * 5000 + ")" * 5000 + " }}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_template_that_does_not_end_or_grows_is_refused(bomb: str) -> None:
    with pytest.raises(InputError, match="template failed"):
        render(BOMBS[bomb])


def test_arithmetic_of_real_templates_is_allowed() -> None:
    assert render("{{ 3 * 4 }} {{ 2 ** 10 }} {{ '-' * 5 }} {{ '%s is %d' % ('it', 7) }} {{ 7 % 4 }}") == (
        "12 1024 ----- it is 7 3"
    )


def test_steps_are_counted_anew_for_each_conversation() -> None:
    template = ChatTemplate("{% for i in range(90000) %}{% endfor %}ok", special_tokens={})
    assert [template.render(HELLO) for _ in range(13)] == ["ok"] * 13


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UnicodeDecodeError"):
        open_chat_template(tmp_path)


@pytest.mark.parametrize("content", [b"\xff", b"[" * 200_000])
def test_a_tokenizer_configuration_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(InputError, match="is not JSON"):
        open_chat_template(tmp_path)


PARTS_ALONE = (
    "{% for m in messages %}{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %};{% endfor %}"
)
TEXTS_ALONE = "{% for m in messages %}{{ m['content'] + '' }};{% endfor %}"


def test_a_template_of_parts_alone_is_given_texts_as_parts() -> None:
    """It would pass a text over, letter by letter, without a word."""
    template = ChatTemplate(PARTS_ALONE, special_tokens={})
    messages = [{"role": "user", "content": "Hello"}]
    assert template.render(messages) == "Hello;"
    assert template.as_read(messages) == [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]


def test_a_template_of_texts_alone_has_no_place_for_an_image() -> None:
    template = ChatTemplate(TEXTS_ALONE, special_tokens={})
    assert template.as_read([{"role": "user", "content": "Hello"}]) == [{"role": "user", "content": "Hello"}]
    with pytest.raises(InputError, match="no place for an image"):
        template.render([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hello"}]}])
