"""A short comparison of two artifacts, each in a process of its own."""

from __future__ import annotations

import json

from jisu.benchmarks.studies import embedding_speed


def test_engines_are_asked_in_turn_and_their_rankings_compared(tiny_embedder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedding_speed, "TOKENS", (16,))
    monkeypatch.setattr(embedding_speed, "BATCHES", (1, 2))
    monkeypatch.setattr(embedding_speed, "SECONDS", 0.01)
    folder, report = tiny_embedder.folder, tmp_path / "speed.json"
    names = [f"--contestant=one=jisu:{folder}", f"--contestant=other=jisu:{folder}"]
    arguments = [*names, "--tokenizer", str(folder), "--rounds", "2", "--threads", "1", "--report", str(report)]
    assert embedding_speed.main(arguments) == 0
    record = json.loads(report.read_text())
    assert [(row["tokens"], row["batch"]) for row in record["rows"]] == [(16, 1), (16, 2)]
    assert all(one["texts_per_second"] > 0 for row in record["rows"] for one in row["contestants"].values())
    assert record["quality"]["other"]["recall_at_10"] == 1.0
    assert "batch  2" in capsys.readouterr().out
