from __future__ import annotations

import json

import pytest

import jisu

TEXT = "The quick brown fox\tjumps over Paris."


@pytest.fixture
def tag(tiny_tagger, capsys):
    def run(*words, code=0):
        assert jisu.main(["tag", str(tiny_tagger.folder), *words]) == code
        actual = capsys.readouterr()
        return actual.out if code == 0 else actual.err

    return run


def test_a_line_for_each_tag(tag):
    lines = [line.split("\t") for line in tag(TEXT, "--ignore-label", "PER").splitlines()]
    assert lines
    for label, score, start, end, words in lines:
        assert label in ("O", "LOC")
        assert 0 < float(score) <= 1
        assert words == " ".join(TEXT[int(start) : int(end)].split())


def test_json_has_the_tags_of_a_text(tag):
    record = json.loads(tag(TEXT, "--aggregation", "none", "--json"))
    assert record["text"] == TEXT
    assert all(one["label"] != "O" and one["token"] > 0 for one in record["tags"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((TEXT, "--ignore-label", "nobody"), "does not have such a label"),
        ((" ",), "The text is empty"),
        (("dog " * 600,), "too long for the model"),
    ],
)
def test_bad_input_is_one_sentence(words, message, tag):
    error = tag(*words, code=2)
    assert message in error
    assert error.count("\n") == 1
