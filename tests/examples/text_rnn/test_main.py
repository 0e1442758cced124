"""The command line from raw text to an engine that answers, and its exit codes."""

from __future__ import annotations

import io
import sys

import pytest

from examples.text_rnn.__main__ import VERBS, main
from examples.text_rnn.csv_table import write_table

SMALL = ["--embedding-size", "16", "--hidden-size", "32", "--heads", "2", "--epochs", "12", "--rate", "0.02"]


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    """Prepared data, a trained LSTM and its engine."""
    folder = tmp_path_factory.mktemp("zh")
    rows = [f"今天妈妈在公园散步，第{number}次。" for number in range(30)]
    for name, part in (("train", rows[:24]), ("test", rows[24:])):
        (folder / f"{name}.csv").write_text("\n".join(["内容", *part]), encoding="gb18030")
    own = ["--train", folder / "train.csv", "--test", folder / "test.csv", "--text-column", "内容"]
    prepared = ["prepare", "--language", "zh", "--task", "generate", *own, "--encoding", "gb18030"]
    assert run(*prepared, "--out", folder / "data") == 0
    assert run("train", folder / "data", "--network", "lstm", *SMALL, "--out", folder / "model") == 0
    assert run("export", folder / "model", "--data", folder / "data", "--out", folder / "engine") == 0
    return folder


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_plain(verb, capsys):
    with pytest.raises(SystemExit) as end:
        run(*[verb] if verb else [], "--help")
    assert end.value.code == 0
    assert "usage: python -m examples.text_rnn" in capsys.readouterr().out


@pytest.mark.parametrize("backend", ["ort-cpu", "torch"])
def test_prompt_continues_chinese(chinese, backend, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("今天妈妈\n\n ，\n"))
    assert run("prompt", chinese / "model", "--engine", chinese / "engine", "--backend", backend) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("请输入文本：今天妈妈在公园散步")
    assert " " not in printed.splitlines()[0]


def test_evaluate_and_speed_print_their_figures(chinese, capsys):
    assert run("evaluate", chinese / "model", "--data", chinese / "data") == 0
    assert "perplexity" in capsys.readouterr().out
    assert run("speed", chinese / "model", "--engine", chinese / "engine") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["PyTorch loop", "PyTorch loop without state", "engine"]


def test_prompt_labels_english(tmp_path, monkeypatch, capsys):
    rows = [("this is good", "praise"), ("this is bad", "blame")] * 12
    write_table(tmp_path / "own.csv", ["text", "label"], rows)
    own = ["--train", tmp_path / "own.csv", "--test", tmp_path / "own.csv"]
    assert run("prepare", "--language", "en", "--task", "classify", *own, "--out", tmp_path / "data") == 0
    assert run("train", tmp_path / "data", "--network", "gru", *SMALL, "--out", tmp_path / "model") == 0
    assert run("export", tmp_path / "model", "--data", tmp_path / "data", "--out", tmp_path / "engine") == 0
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.StringIO("This is good\nThis is BAD\n"))
    assert run("prompt", tmp_path / "model", "--engine", tmp_path / "engine") == 0
    first, second, _ = capsys.readouterr().out.split("Enter text: ")[1:]
    assert first.startswith("Prediction: praise (praise ") and second.startswith("Prediction: blame (blame ")
    assert run("speed", tmp_path / "model", "--engine", tmp_path / "engine", "--data", tmp_path / "data") == 0
    assert "texts/s" in capsys.readouterr().out


def test_word_vectors_can_be_trained_and_used(chinese, tmp_path, capsys):
    assert run("embed", chinese / "data", "--size", "16", "--out", tmp_path / "vectors.txt") == 0
    options = ["--embeddings", tmp_path / "vectors.txt", "--hidden-size", "32", "--epochs", "1"]
    assert run("train", chinese / "data", *options, "--out", tmp_path / "model") == 0
    assert "words have a vector (100.0%), 100.0% of the running text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "{none}", "--out", "{out}"], "no prepared data"),
        (
            ["train", "{data}", "--out", "{out}", "--hidden-size", "0", "--embedding-size", "0"],
            "embedding_size 0, hidden_size 0",
        ),
        (["train", "{data}", "--out", "{out}", "--network", "transformer", "--heads", "3"], "256 with 3 heads"),
        (["train", "{data}", "--out", "{out}", "--freeze-embeddings"], "no word vectors"),
        (["train", "{data}", "--out", "{out}", "--embeddings", "{ragged}"], "Line 2"),
        (["train", "{data}", "--out", "{out}", "--resume"], "no training to resume"),
        (["export", "{none}", "--data", "{data}", "--out", "{out}"], "no trained model"),
        (["export", "{model}", "--data", "{data}", "--precision", "int3", "--out", "{out}"], "int3"),
        (["prepare", "--language", "zh", "--task", "generate", "--train", "{ragged}", "--out", "{out}"], "--test"),
        (
            [
                "prepare",
                "--language",
                "zh",
                "--task",
                "classify",
                "--train",
                "{csv}",
                "--test",
                "{csv}",
                "--out",
                "{out}",
            ],
            "no column named",
        ),
        (["prompt", "{model}", "--engine", "{none}"], "cannot be read"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(chinese, tmp_path, capsys, words, message):
    ragged = tmp_path / "ragged.txt"
    ragged.write_text("今天 1 2\n妈妈 1\n", encoding="utf-8")
    table = tmp_path / "own.csv"
    table.write_text("text\n你好\n", encoding="utf-8")
    places = {"data": chinese / "data", "model": chinese / "model", "none": tmp_path / "none", "out": tmp_path / "out"}
    code = run(*(word.format(**places, ragged=ragged, csv=table) for word in words))
    error = capsys.readouterr().err
    assert code == 2
    assert message in error and error.startswith(f"{words[0]}: error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.csv", "ragged.txt"]
