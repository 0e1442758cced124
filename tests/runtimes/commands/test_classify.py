from __future__ import annotations

import io
import json
import sys

import pytest

import jisu
from jisu.runtimes.commands.classify import _show
from jisu.runtimes.reading.classification import Classification


@pytest.fixture
def classify(tiny_classifier, capsys):
    def run(*words, code=0):
        assert jisu.main(["classify", str(tiny_classifier.folder), *words]) == code
        actual = capsys.readouterr()
        return actual.out if code == 0 else actual.err

    return run


def test_a_line_for_each_text(classify):
    lines = [line.split("\t") for line in classify("good morning", "a\nb").splitlines()]
    assert [line[2] for line in lines] == ["good morning", "a b"]
    assert all(line[0] in ("sad", "neutral", "glad") and 1 / 3 <= float(line[1]) <= 1 for line in lines)


def test_json_has_every_probability(classify):
    record = json.loads(classify("good morning", "--json"))
    assert record["text"] == "good morning"
    assert set(record["probabilities"]) == {"sad", "neutral", "glad"}
    assert record["probability"] == record["probabilities"][record["label"]] == max(record["probabilities"].values())


def test_every_estimate_of_a_regression_is_printed(capsys):
    scores = {"length": 1.25, "age": -0.5}
    estimates = Classification(label="length", score=1.25, scores=scores, tokens=3, activation="none")
    _show("good morning", estimates, as_json=False)
    assert capsys.readouterr().out == "length, age\t1.2500, -0.5000\tgood morning\n"


def test_lines_of_standard_input_are_texts(classify, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("good morning\n\nbad evening\r\n"))
    both = classify()
    assert both.count("\n") == 2
    assert both == classify("good morning", "bad evening")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x " * 600], "too long for the model"),
        ([" "], "The text is empty"),
        (["x", "--backend", "nowhere"], "no such backend"),
    ],
)
def test_bad_input_is_one_sentence(words, message, classify):
    error = classify(*words, code=2)
    assert message in error
    assert error.count("\n") == 1


def test_a_long_text_can_be_cut_off(classify):
    assert classify("x " * 600, "--truncate")


def test_a_model_that_generates_has_no_labels(tmp_path, capsys):
    from tests.runtimes.commands.registered import answering

    generator = answering(tmp_path, "hello")
    folder = next(generator)
    assert jisu.main(["classify", str(folder), "x", "--backend", "answering"]) == 2
    assert "is not a classifier" in capsys.readouterr().err
    next(generator, None)
