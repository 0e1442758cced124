from __future__ import annotations

import json

import pytest

import jisu


@pytest.fixture
def fill(tiny_filler, capsys):
    def run(*words, code=0):
        assert jisu.main(["fill", str(tiny_filler.folder), *words]) == code
        actual = capsys.readouterr()
        return actual.out if code == 0 else actual.err

    return run


def test_a_line_for_each_word(fill):
    lines = [line.split("\t") for line in fill("Paris is the [MASK] of France.", "--top", "3").splitlines()]
    assert len(lines) == 3
    assert all(line[0] in line[2] for line in lines if not line[0].startswith(("#", "[")))
    assert [float(line[1]) for line in lines] == sorted((float(line[1]) for line in lines), reverse=True)


def test_json_has_the_words_of_each_place(fill):
    record = json.loads(fill("[MASK] and [MASK]", "--json"))
    assert [len(place) for place in record["places"]] == [5, 5]
    assert set(record["places"][0][0]) == {"word", "score", "token", "text"}


@pytest.mark.parametrize(
    ("words", "message"), [(("dog",), "Nothing is masked"), (("[MASK]", "--top", "0"), "top_k is out of range")]
)
def test_bad_input_is_one_sentence(words, message, fill):
    error = fill(*words, code=2)
    assert message in error
    assert error.count("\n") == 1
