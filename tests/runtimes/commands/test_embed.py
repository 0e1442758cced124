from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest

import jisu


@pytest.fixture
def embed(tiny_embedder, capsys):
    def run(*words, code=0):
        assert jisu.main(["embed", str(tiny_embedder.folder), *map(str, words)]) == code
        actual = capsys.readouterr()
        return actual.out if code == 0 else actual.err

    return run


def test_a_line_of_json_for_each_text(embed):
    records = [json.loads(line) for line in embed("good morning", "bad evening").splitlines()]
    assert [record["text"] for record in records] == ["good morning", "bad evening"]
    assert {len(record["embedding"]) for record in records} == {48}


def test_a_file_of_texts_gives_a_file_of_vectors(embed, tmp_path, monkeypatch):
    (tmp_path / "texts.txt").write_text("good morning\n\nbad evening\r\n", encoding="utf-8")
    lines = [json.dumps({"text": text}) for text in ("good morning", "bad evening")]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    expected = [json.loads(line)["embedding"] for line in embed("good morning", "bad evening").splitlines()]
    (tmp_path / "marked.txt").write_text("good morning\nbad evening\n", encoding="utf-8-sig")
    for name in ("texts.txt", "texts.jsonl", "marked.txt"):
        assert embed("--input", tmp_path / name, "--output", tmp_path / "v.npy", "--overwrite") == ""
        np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-6)
    monkeypatch.setattr(sys, "stdin", io.StringIO("good morning\nbad evening\n"))
    assert len(embed().splitlines()) == 2
    assert list(tmp_path.glob(".*")) == []


def test_fewer_dimensions_and_a_prompt(embed):
    plain, prompted = (json.loads(embed("a", "--dimensions", 8, *more)) for more in ((), ("--prompt", "query")))
    assert len(plain["embedding"]) == 8 and plain["embedding"] != prompted["embedding"]
    assert np.linalg.norm(plain["embedding"]) == pytest.approx(1, abs=1e-5)
    raw = json.loads(embed("a", "--dimensions", 8, "--no-normalize"))["embedding"]
    assert np.linalg.norm(raw) < 0.99


def test_no_text_gives_no_vectors(embed, tmp_path):
    (tmp_path / "none.txt").write_text("\n")
    embed("--input", tmp_path / "none.txt", "--output", tmp_path / "v.npy")
    assert np.load(tmp_path / "v.npy").shape == (0, 48)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x " * 600], "too long for the model"),
        ([" "], "The text is empty"),
        (["x", "--prompt", "nobody"], "no prompt of this name"),
        (["x", "--dimensions", "49"], "do not have so many dimensions"),
        (["x", "--output", "vectors.txt"], "cannot be written there"),
        (["x", "--overwrite"], "--overwrite belongs to --output"),
        (["x", "--input", "nowhere.txt"], "Texts come from one place"),
        (["--input", "nowhere.txt"], "The file nowhere.txt cannot be read"),
        (["x", "--output", "nowhere/v.npy"], "nowhere/v.npy cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(words, message, embed):
    error = embed(*words, code=2)
    assert message in error
    assert error.count("\n") == 1


def test_a_line_that_is_no_text_is_named(embed, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n')
    assert f"There is no text in line 2 of {tmp_path}" in embed("--input", tmp_path / "texts.jsonl", code=2)


def test_an_artifact_is_not_written_into(embed, tiny_embedder):
    assert "cannot be written into an artifact" in embed("x", "--output", tiny_embedder.folder / "v.npy", code=2)
