from __future__ import annotations

import argparse
import builtins
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.commands import chat
from jisu.runtimes.conversation import Conversation
from tests.runtimes.commands.registered import answering


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield from answering(tmp_path, "hello!")


def run(folder: Path, *words: object) -> int:
    parser = argparse.ArgumentParser()
    chat.add_arguments(parser)
    return chat.run(parser.parse_args([str(folder), "--backend", "answering", *map(str, words)]))


def type_lines(monkeypatch: pytest.MonkeyPatch, lines: list[str | type[BaseException]]) -> None:
    """A terminal on which somebody types these lines, or presses keys that raise."""
    pending = iter(lines)

    def read(prompt: str = "") -> str:
        sys.stdout.write(prompt)
        line = next(pending, EOFError)
        if isinstance(line, str):
            return line
        raise line

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(builtins, "input", read)


def test_without_a_terminal_lines_come_in_and_answers_go_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n\nyou\n/reset\nagain\n"))
    assert run(folder) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("hello!\n" * 3, "")


def test_an_unknown_command_without_a_terminal_is_passed_over_and_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n/restart\nagain\n"))
    assert run(folder) == 2
    out, err = capsys.readouterr()
    assert out == "hello!\n" * 2
    assert "There is no such command. Received: /restart" in err


def test_quit_leaves(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n/quit\nnever\n"))
    assert run(folder) == 0
    assert capsys.readouterr().out == "hello!\n"


def test_ctrl_d_leaves_and_ctrl_c_at_the_prompt_does_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines(monkeypatch, [KeyboardInterrupt, "hi", EOFError])
    assert run(folder) == 0
    assert capsys.readouterr().out == "> \n> hello!\n> \n"


def test_ctrl_c_stops_one_answer_not_the_program(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask: Callable[..., Iterator[str]] = Conversation.ask

    def interrupted(conversation: Conversation, text: str) -> Iterator[str]:
        for count, piece in enumerate(ask(conversation, text)):
            if text == "stop" and count == 1:
                raise KeyboardInterrupt
            yield piece

    monkeypatch.setattr(Conversation, "ask", interrupted)
    type_lines(monkeypatch, ["stop", "hi"])
    assert run(folder) == 0
    out = capsys.readouterr().out
    assert " [stopped]\n> hello!\n" in out


def test_a_message_that_is_too_long_does_not_end_the_program(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines(monkeypatch, ["x" * 600, "hi"])
    assert run(folder) == 0
    out, err = capsys.readouterr()
    assert "hello!" in out
    assert "too long" in err


def test_a_line_that_is_no_utf8_does_not_end_the_program(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines(monkeypatch, ["hi \udcff", "hi"])
    assert run(folder) == 0
    out, err = capsys.readouterr()
    assert "hello!" in out
    assert "jisu chat: error: The text is not Unicode." in err


def test_a_piped_line_that_is_no_utf8_is_an_input_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hi \udcff\n"))
    with pytest.raises(InputError, match="not Unicode"):
        run(folder)


def test_help_and_unknown_commands_list_the_commands_and_ask_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines(monkeypatch, ["/help", "/restart", "/", "/etc/passwd is what?", "/exit", "never"])
    assert run(folder) == 0
    out, err = capsys.readouterr()
    assert out.count("hello!") == 1
    assert "/reset  forget the conversation\n" in err
    assert err.count("There is no such command") == 2
    assert "Received: /restart. Allowed: /help (show this list), /reset" in err


def test_a_model_without_a_template_is_refused_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "chat_template.jinja").unlink()
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    import json

    data = json.loads(manifest)
    del data["files"]["chat_template.jinja"]
    (folder / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n"))
    with pytest.raises(InputError, match="no chat template"):
        run(folder)
