from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.commands import generate
from tests.runtimes.commands.registered import answering


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield from answering(tmp_path, "hello 世界")


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    generate.add_arguments(parser)
    return generate.run(parser.parse_args([*map(str, words), "--backend", "answering"]))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def write(path: Path, *entries: object) -> Path:
    texts = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_each_line_of_a_text_is_a_prompt(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--input", write(tmp_path / "p.txt", "hi", "", '{"prompt": 1}')) == 0
    out, err = capsys.readouterr()
    assert [(line["index"], line["input"], line["text"]) for line in lines(out)] == [
        (0, "hi", "hello 世界"),
        (1, '{"prompt": 1}', "hello 世界"),
    ]
    assert err.startswith("2 prompts, ")


def test_json_lines_are_prompts_and_conversations_and_come_back_whole(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        {"prompt": "hi", "id": "a", "seed": 5},
        {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "hi"}]},
    ]
    assert run(folder, "--input", write(tmp_path / "p.jsonl", *entries), "--sample", "--quiet") == 0
    out, err = capsys.readouterr()
    answers = lines(out)
    assert [line["input"] for line in answers] == entries
    assert answers[0]["seed"] == 5
    assert answers[1]["prompt_tokens"] > answers[0]["prompt_tokens"]
    assert err == ""


def test_a_prompt_that_is_refused_has_its_error_and_the_others_their_answers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [{"prompt": " "}, {"prompt": "hi"}, {"prompt": "long " * 500}]
    out = tmp_path / "out.jsonl"
    assert run(folder, "--input", write(tmp_path / "p.jsonl", *entries), "--output", out) == 2
    answers = lines(out.read_text(encoding="utf-8"))
    assert [line["index"] for line in answers] == [0, 1, 2]
    assert ["error" in line for line in answers] == [True, False, True]
    assert "2 refused" in capsys.readouterr().err


def test_a_system_message_goes_before_each(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "p.txt", "hi")
    run(folder, "--input", path)
    run(folder, "--input", path, "--system", "Be kind.")
    run(folder, "--input", path, "--raw")
    plain, system, raw = (line["prompt_tokens"] for line in lines(capsys.readouterr().out))
    assert raw < plain < system


def test_prompts_may_come_from_a_pipe(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"prompt": "hi"}\n'))
    assert run(folder, "--input", "-", "--input-format", "jsonl") == 0
    assert lines(capsys.readouterr().out)[0]["text"] == "hello 世界"


def test_an_existing_output_is_replaced_on_request_only(folder: Path, tmp_path: Path) -> None:
    path, out = write(tmp_path / "p.txt", "hi"), write(tmp_path / "out.jsonl", "mine")
    with pytest.raises(InputError, match="exists.*--overwrite"):
        run(folder, "--input", path, "--output", out)
    assert out.read_text(encoding="utf-8") == "mine\n"
    assert run(folder, "--input", path, "--output", out, "--overwrite") == 0
    assert len(lines(out.read_text(encoding="utf-8"))) == 1


def test_answers_come_as_they_end_on_request(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "p.txt", "hi", "a longer one", "one that is longer still")
    run(folder, "--input", path, "--as-finished", "--batch-size", 1)
    assert [line["index"] for line in lines(capsys.readouterr().out)] == [2, 1, 0]
    run(folder, "--input", path, "--batch-size", 1)
    assert [line["index"] for line in lines(capsys.readouterr().out)] == [0, 1, 2]


@pytest.mark.parametrize("entry", ["[1]", "{", '{"text": "x"}', '{"prompt": 1}', '{"prompt": "a", "messages": []}'])
def test_a_line_that_is_no_prompt_is_named(folder: Path, tmp_path: Path, entry: str) -> None:
    with pytest.raises(InputError, match="Line 2 of .*p.jsonl is no prompt"):
        run(folder, "--input", write(tmp_path / "p.jsonl", {"prompt": "hi"}, entry))


@pytest.mark.parametrize("key", ["images", "audios"])
def test_images_and_recordings_of_a_line_are_not_passed_over(folder: Path, tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "hi"}, {"prompt": "hi", key: ["a.png"]})
    with pytest.raises(InputError, match=rf"Line 2 of .* has {key}, which many prompts are read without"):
        run(folder, "--input", path)


def test_a_missing_or_binary_file_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        run(folder, "--input", tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        run(folder, "--input", tmp_path / "b.txt")


@pytest.mark.parametrize(
    "words",
    [
        ["hi", "--input", "x.txt"],
        ["--json", "--input", "x.txt"],
        ["hi", "--batch-size", 2],
        ["hi", "--batch-size", 0],
        ["", "--input", "x.txt"],
        ["hi", "--output", "x"],
        ["--input", "x.txt", "--template-var", "a=1"],
    ],
    ids=str,
)
def test_options_that_nothing_would_read_are_refused(folder: Path, words: list[object]) -> None:
    with pytest.raises(InputError):
        run(folder, *words)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_output_is_not_blamed_on_the_input(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        run(folder, "--input", write(tmp_path / "p.txt", "hi"), "--output", "/dev/full", "--overwrite")
