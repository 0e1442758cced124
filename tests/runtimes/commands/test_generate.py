from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from jisu.exporter.contract.artifact import record_files
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.commands import generate
from tests.runtimes.commands.registered import answering


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield from answering(tmp_path, "hello 世界")


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    generate.add_arguments(parser)
    return generate.run(parser.parse_args([str(word) for word in words]))


def test_the_answer_goes_to_stdout_and_the_numbers_to_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "hi", "--backend", "answering") == 0
    out, err = capsys.readouterr()
    assert out == "hello 世界\n"
    assert "prompt tokens, first token after" in err
    assert "tokens/s" in err
    assert err.count("\n") == 1


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "hi", "--backend", "answering", "--json", "--logprobs", 2) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert (record["text"], record["finish_reason"], err) == ("hello 世界", "eos", "")
    assert len(record["logprobs"]) == len(record["token_ids"])
    assert record["timings"]["decode_tokens_per_second"] > 0


def test_options_reach_the_generation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "hi", "--backend", "answering", "--max-new-tokens", 2, "--stop", "zz") == 0
    assert capsys.readouterr().out == "hello\n"


def test_raw_leaves_the_template_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "hi", "--backend", "answering", "--json")
    chat = json.loads(capsys.readouterr().out)["prompt_tokens"]
    run(folder, "hi", "--backend", "answering", "--json", "--raw")
    assert json.loads(capsys.readouterr().out)["prompt_tokens"] == 2 < chat


def test_the_prompt_may_come_from_a_file_or_stdin(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("你", encoding="utf-8")
    assert run(folder, "--prompt-file", path, "--raw", "--json", "--backend", "answering") == 0
    assert json.loads(capsys.readouterr().out)["prompt_tokens"] == 3
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("你".encode())))
    assert run(folder, "--prompt-file", "-", "--raw", "--json", "--backend", "answering") == 0
    assert json.loads(capsys.readouterr().out)["prompt_tokens"] == 3


@pytest.mark.parametrize("words", [["-"], []], ids=str)
def test_without_a_prompt_standard_input_is_the_prompt(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("你".encode())))
    assert run(folder, *words, "--raw", "--json", "--backend", "answering") == 0
    assert json.loads(capsys.readouterr().out)["prompt_tokens"] == 3


def test_the_mark_at_the_beginning_of_a_file_is_no_text(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("你", encoding="utf-8-sig")
    assert run(folder, "--prompt-file", path, "--raw", "--json", "--backend", "answering") == 0
    assert json.loads(capsys.readouterr().out)["prompt_tokens"] == 3


def test_a_system_message_comes_before_the_prompt(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def prompt_tokens(*words: str) -> int:
        assert run(folder, "hi", "--backend", "answering", "--json", *words) == 0
        return int(json.loads(capsys.readouterr().out)["prompt_tokens"])

    assert prompt_tokens("--system", "be kind") == prompt_tokens() + len("<system\nbe kind>\n")
    with pytest.raises(InputError, match="The prompt is empty"):
        run(folder, " ", "--backend", "answering", "--system", "be kind")


def test_quiet_leaves_the_numbers_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "hi", "--backend", "answering", "--quiet") == 0
    assert capsys.readouterr() == ("hello 世界\n", "")


@pytest.mark.parametrize("words", [["--logprobs", "2"], ["--raw", "--system", "x"], ["--top-p", "0.5"]], ids=str)
def test_an_option_without_effect_is_refused(folder: Path, words: list[str]) -> None:
    with pytest.raises(InputError, match="[Ww]ithout|leaves out|needs --json"):
        run(folder, "hi", "--backend", "answering", *words)


def test_a_drawn_seed_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "hi", "--backend", "answering", "--temperature", 0.1) == 0
    assert ", seed " in capsys.readouterr().err
    assert run(folder, "hi", "--backend", "answering", "--temperature", 0.1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["seed"] >= 0


@pytest.mark.parametrize("words", [[], ["hi", "--prompt-file", "x"]])
def test_there_is_exactly_one_prompt(folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(InputError, match="one prompt"):
        run(folder, *words)


def test_an_unreadable_prompt_file_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.txt cannot be read"):
        run(folder, "--prompt-file", tmp_path / "no.txt")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bad\.txt cannot be read"):
        run(folder, "--prompt-file", tmp_path / "bad.txt")


def test_bad_options_and_folders_are_input_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="temperature"):
        run(folder, "hi", "--temperature", -1)
    with pytest.raises(InputError, match="not an artifact"):
        run(tmp_path / "nothing", "hi")
    with pytest.raises(InputError, match="no such backend"):
        run(folder, "hi", "--backend", "gpu")


def test_an_interrupt_ends_the_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(stream: object, *, as_json: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "_show", interrupted)
    assert run(folder, "hi", "--backend", "answering") == 130
    assert capsys.readouterr().out == "\n"


def prompt_tokens(capsys: pytest.CaptureFixture[str], *words: object) -> int:
    assert run(*words, "--backend", "answering", "--json") == 0
    return int(json.loads(capsys.readouterr().out)["prompt_tokens"])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_line_ends_at_the_end_of_a_file_or_a_pipe_do_not_count(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    expected = prompt_tokens(capsys, folder, " two\nlines ")
    (tmp_path / "prompt").write_bytes(f" two\nlines {end}".encode())
    assert prompt_tokens(capsys, folder, "--prompt-file", tmp_path / "prompt") == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f" two\nlines {end}".encode())))
    assert prompt_tokens(capsys, folder) == expected


def record_again(folder: Path) -> None:
    """Let the manifest say what the files are now."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"] = {name: asdict(record) for name, record in record_files(folder).items()}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_conversation_comes_from_a_file_with_its_tools(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = (
        "{{ tools | tojson }}{% if thinks %}+{% endif %}{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    record_again(folder)
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f"}}]},
        {"role": "tool", "content": "42"},
    ]
    plain, whole = tmp_path / "plain.json", tmp_path / "whole.json"
    plain.write_text(json.dumps(messages), encoding="utf-8")
    whole.write_text(json.dumps({"messages": messages, "tools": [{"name": "f"}]}), encoding="utf-8")
    (tmp_path / "tools.json").write_text(json.dumps([{"name": "f"}]), encoding="utf-8")
    short = prompt_tokens(capsys, folder, "--messages", plain)
    with_tools = prompt_tokens(capsys, folder, "--messages", whole)
    assert with_tools == short + len('[{"name": "f"}]') - 3  # null: n, u and ll
    assert prompt_tokens(capsys, folder, "--messages", plain, "--tools", tmp_path / "tools.json") == with_tools
    assert prompt_tokens(capsys, folder, "--messages", plain, "--template-var", "thinks=true") == short + 1
    assert prompt_tokens(capsys, folder, "--messages", plain, "--template-var", "thinks=false") == short
    with pytest.raises(InputError, match=r"does not read think.*Did you mean thinks"):
        run(folder, "--messages", plain, "--template-var", "think=true", "--backend", "answering")


def test_the_last_message_is_continued(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "messages.json"
    path.write_text(json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes, "}]))
    requested = prompt_tokens(capsys, folder, "--messages", path)
    continued = prompt_tokens(capsys, folder, "--messages", path, "--continue-final-message")
    # <|im_end|>, a line end, <|im_start|> and "assistant" with another line end are left out.
    assert requested - continued == 3 + len("assistant\n")


@pytest.mark.parametrize(
    "words",
    [
        ["--raw", "--template-var", "a=1"],
        ["--messages", "{messages}", "--system", "x"],
        ["hi", "--messages", "{messages}"],
        ["hi", "--continue-final-message"],
        ["--messages", "{messages}", "--continue-final-message"],
        ["hi", "--template-var", "a"],
        ["--messages", "{empty}"],
    ],
    ids=str,
)
def test_what_does_not_belong_together_is_refused(folder: Path, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "messages").write_text('[{"role": "user", "content": "hi"}]')
    (tmp_path / "empty").write_text("[]")
    arguments = [word.format(messages=tmp_path / "messages", empty=tmp_path / "empty") for word in words]
    with pytest.raises(InputError):
        run(folder, *arguments, "--backend", "answering")
