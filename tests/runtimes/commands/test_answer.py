from __future__ import annotations

import io
import json
import sys

import pytest

import jisu

CONTEXT = "The capital of France is Paris;\nthe capital of Japan is Tokyo. " * 4


@pytest.fixture
def answer(tiny_answerer, tmp_path, capsys):
    file = tmp_path / "context.txt"
    file.write_text(CONTEXT, encoding="utf-8")

    def run(*words, question="Tokyo?", context=file, code=0):
        arguments = ["answer", str(tiny_answerer.folder), "--question", question, "--context", str(context)]
        assert jisu.main([*arguments, "--stride", "20", *words]) == code
        actual = capsys.readouterr()
        return actual.out if code == 0 else actual.err

    return run


def test_a_line_for_each_answer(answer):
    lines = [line.split("\t") for line in answer("--top", "3").splitlines()]
    assert len(lines) == 3
    assert all(words == " ".join(CONTEXT[int(start) : int(end)].split()) for _, start, end, words in lines)


def test_the_context_may_come_from_standard_input(answer, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(CONTEXT))
    assert answer(context="-") == answer()


def test_that_there_is_no_answer_is_one(answer):
    answers = [json.loads(line) for line in answer("--top", "9999", "--may-be-none", "--json").splitlines()]
    assert {"text": "", "start": 0, "end": 0} in [
        {key: one[key] for key in ("text", "start", "end")} for one in answers
    ]
    assert "(no answer)" in answer("--top", "9999", "--may-be-none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"question": "dog " * 60}, "leaves no room"),
        ({"question": " "}, "The text is empty"),
        ({"context": "nowhere.txt"}, "nowhere.txt cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(options, message, answer):
    error = answer(**options, code=2)
    assert message in error
    assert error.count("\n") == 1
