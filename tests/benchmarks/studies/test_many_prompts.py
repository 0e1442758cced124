from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.benchmarks.studies import many_prompts
from tests.runtimes.commands.registered import answering


def test_prompts_are_of_mixed_lengths_and_the_same_each_time() -> None:
    prompts = many_prompts.mixed_prompts(40)
    lengths = {len(prompt.split()) for prompt in prompts}
    assert min(lengths) < 30 and max(lengths) > 90
    assert prompts == many_prompts.mixed_prompts(40)


def test_both_ways_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = many_prompts.load
    monkeypatch.setattr(many_prompts, "load", lambda folder, threads: load(folder, "answering", threads=threads))
    monkeypatch.setattr(many_prompts, "mixed_prompts", lambda count: ["hi"] * count)
    for folder in answering(tmp_path, "hello"):
        words = [str(folder), "--prompts", "3", "--rounds", "1", "--new-tokens", "2"]
        assert many_prompts.main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["tokens_per_second"]) == 2 * len(many_prompts.SIZES)
    assert record["ratio"] > 0
