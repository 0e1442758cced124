from __future__ import annotations

import json

import numpy as np
import pytest

from jisu.benchmarks.studies import gpu
from jisu.benchmarks.studies.gpu import Round, Workload, run_rounds, table
from tests.support import gpu_needs


class Counting:
    """Says 1, 2, 3 ... and takes a second for a prompt and a half for a token; breaks when told to."""

    def __init__(self, name, clock, *, speed=1.0, breaks_at=None):
        self.name, self._clock, self._speed, self._breaks_at = name, clock, speed, breaks_at

    def prefill(self, token_ids):
        self._clock.now += len(token_ids) / 32 / self._speed
        self._said = 1
        return 1

    def decode(self, token):
        assert token == self._said, "each is fed its own tokens"
        if self._said == self._breaks_at:
            raise RuntimeError("out of memory\nat some place")
        self._clock.now += 0.5 / self._speed
        self._said += 1
        return self._said


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_rounds_go_by_turns_and_the_first_does_not_count():
    clock = Clock()
    ones = [Counting("torch eager", clock), Counting("ours", clock, speed=4), Counting("bad", clock, breaks_at=2)]
    expected = Workload(prompt=32, new_tokens=4, trials=3)
    rounds, failed = run_rounds(ones, np.arange(32), expected, clock=clock)
    assert [len(actual) for actual in rounds.values()] == [3, 3]
    assert rounds["ours"][0] == Round(prefill=0.25, decode=0.5, tokens=(1, 2, 3, 4, 5))
    assert failed == {"bad": "RuntimeError: out of memory"}
    rows = gpu._rows(rounds, expected, bandwidth=1000.0, read=50.0)
    assert rows["ours"]["decode_tokens_per_s"]["median"] == 8
    assert rows["ours"]["prefill_tokens_per_s"]["median"] == 128
    assert rows["ours"]["times_torch_eager"] == 4
    assert rows["ours"]["share_of_copy_bandwidth"] == 0.4
    assert rows["ours"]["same_tokens_as_torch"] == 5
    shown = table({"rows": rows, "not_run": failed})
    assert "bad: not run, RuntimeError: out of memory" in shown


def test_the_first_token_that_differs_is_found():
    assert gpu._same([1, 2, 9, 4], [1, 2, 3, 4]) == 2


@pytest.mark.skipif(gpu_needs.missing("cuda") is None, reason="is about machines without a GPU")
def test_without_a_gpu_it_says_so(tiny, tmp_path, capsys):
    assert gpu.main([str(tiny.source), "--out", str(tmp_path)]) == 2
    assert "There is no GPU to measure" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_all_of_it_is_rehearsed_on_the_processor(tiny, tmp_path, capsys, monkeypatch):
    from jisu.exporter.contract.artifact import read_artifact

    monkeypatch.setattr(gpu, "_artifact", lambda *_, **__: read_artifact(tiny.fp32))
    makers = gpu._makers
    # Compiling takes half a minute and is torch's own business.
    monkeypatch.setattr(
        gpu,
        "_makers",
        lambda *arguments: {name: make for name, make in makers(*arguments).items() if name != "torch.compile"},
    )
    words = [str(tiny.source), "--rehearse", "--out", str(tmp_path), "--prompt", "8", "--new-tokens", "3"]
    assert gpu.main([*words, "--trials", "1"]) == 0
    report = json.loads((tmp_path / "rehearsal-on-a-cpu.json").read_text())
    assert set(report["rows"]) == {"torch eager", "raw session", "jisu ort-cpu"}
    assert {row["same_tokens_as_torch"] for row in report["rows"].values()} == {4}
    assert "jisu tensorrt" in report["not_run"]
    assert report["bound_tokens_per_s"] > 0
    assert "raw session" in capsys.readouterr().out
