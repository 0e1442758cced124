from __future__ import annotations

import io
import json
import os
import sys
import threading

import pytest

import jisu


@pytest.fixture
def rerank(tiny_ranker, tmp_path, capsys):
    file = tmp_path / "documents.txt"

    def run(documents, *words, query="dog", code=0):
        file.write_text("\n".join(documents), encoding="utf-8")
        arguments = ["rerank", str(tiny_ranker.folder), "--query", query, "--documents", str(file), *words]
        assert jisu.main(arguments) == code
        actual = capsys.readouterr()
        return actual.out if code == 0 else actual.err

    return run


def test_documents_are_printed_in_their_order(rerank):
    documents = ["the lazy dog", "Paris is the capital", "fox"]
    lines = [line.split("\t") for line in rerank(documents).splitlines()]
    assert sorted(line[0] for line in lines) == ["0", "1", "2"]
    assert [line[2] for line in lines] == [documents[int(line[0])] for line in lines]
    scores = [float(line[1]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert rerank(documents, "--top", "1").splitlines() == rerank(documents).splitlines()[:1]
    record = json.loads(rerank(documents, "--top", "1", "--json"))
    assert (record["index"], record["text"]) == (int(lines[0][0]), lines[0][2])


def test_documents_of_a_pipe_are_those_of_a_file(rerank, tiny_ranker, tmp_path, capsys, monkeypatch):
    documents = ["the lazy dog", "Paris is the capital", "fox"]
    expected = rerank(documents)
    words = ["rerank", str(tiny_ranker.folder), "--query", "dog", "--documents"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(documents)))
    assert jisu.main([*words, "-"]) == 0
    assert capsys.readouterr().out == expected
    if hasattr(os, "mkfifo"):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=("\n".join(documents),))
        writer.start()
        assert jisu.main([*words, str(pipe), "--top", "2"]) == 0
        writer.join()
        assert capsys.readouterr().out.splitlines() == expected.splitlines()[:2]


@pytest.mark.parametrize(
    ("documents", "words", "query", "message"),
    [
        ([], (), "dog", "There is no document"),
        (["fox"], ("--top", "0"), "dog", "So many documents cannot be returned"),
        (["fox"], (), " ", "The query is empty"),
        (["fox " * 100], (), "dog", "too long for the model"),
    ],
)
def test_bad_input_is_one_sentence(documents, words, query, message, rerank):
    error = rerank(documents, *words, query=query, code=2)
    assert message in error
    assert error.count("\n") == 1


def test_long_documents_can_be_shortened(rerank):
    assert rerank(["fox " * 100], "--truncate")
