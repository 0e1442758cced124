from __future__ import annotations

import numpy as np
import pytest

from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.label_quality import label_sets, measure_label_quality
from jisu.benchmarks.compare.rounds import open_processes, restored_outcomes
from jisu.benchmarks.compare.timed_process import TimedProcess
from jisu.exporter.gate.texts import gate_texts
from tests.benchmarks.fake_worker import fake_contestant

SETS = {"prose": (np.array([1, 1, 1]), np.array([2])), "code": (np.array([1, 2]),)}
# The first token is the label.
FIRST = "logits = np.zeros((1, 3), np.float32); logits[0, tokens[0]] = 4"


def test_figures_are_those_of_the_probabilities(tmp_path):
    contestants = [
        fake_contestant("same", logits=FIRST),
        fake_contestant("one", logits="logits = np.array([[0, 4, 0]], np.float32)"),
        fake_contestant("nan", logits="logits = np.full((1, 3), np.nan)"),
        fake_contestant("wide"),
        fake_contestant("shy", logits="raise UnsupportedError('not told')"),
    ]
    journal = Journal(tmp_path, "plan")
    outcomes = restored_outcomes(contestants, [])
    with (
        open_processes(outcomes, needed=lambda _: True, time_limit=60, journal=journal, say=print) as processes,
        TimedProcess(fake_contestant("reference", logits=FIRST).command, time_limit=60) as truth,
    ):
        measure_label_quality(truth, outcomes, processes, SETS, journal=journal, say=print)
    same, one = (outcomes[name].quality["sets"] for name in ("same", "one"))
    figures = {"mean_kl": 0.0, "p99_kl": 0.0, "top1": 1.0, "near_ties": 0, "texts": 2, "judges": True}
    assert same["prose"] == {**figures, "intervals": {"mean_kl": [0.0, 0.0]}}
    assert outcomes["one"].quality["worst"]["domain"] == "prose"
    # Of the second text only, where p and q are e^4 : 1 : 1 in other places: (p - q) * 4.
    kl = 4 * (np.exp(4) - 1) / (np.exp(4) + 2)
    assert one["prose"]["mean_kl"] == pytest.approx(kl / 2)
    assert one["prose"]["p99_kl"] == pytest.approx(kl)
    assert one["prose"]["top1"] == 0.5
    assert one["code"]["top1"] == 1.0
    assert "not finite" in outcomes["nan"].failure
    assert "logits (3, 8) where the source has (1, 3)" in outcomes["wide"].failure
    assert (outcomes["shy"].quality["sets"], outcomes["shy"].quality["reason"]) == ({}, "not told")
    assert [record["contestant"] for record in journal.records if "quality" in record] == ["same", "one", "shy"]


def test_sets_are_the_domains_of_the_gate():
    texts = gate_texts(None, 100, 64)
    assert list(label_sets(texts)) == ["random ids"]
