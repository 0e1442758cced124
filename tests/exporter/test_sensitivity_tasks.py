from __future__ import annotations

import json

import pytest

from jisu import main
from tests.rerun_tasks import without_a_cluster


def figures(path):
    state = json.loads(path.read_text())
    groups = [group for index in sorted(state["layers"]) for group in state["layers"][index]] + state["tables"]
    return {(tuple(group["names"]), label): kl for group in groups for label, kl in group["kl"].items()}


def test_tasks_that_are_lost_and_run_again_measure_the_same_as_this_process(tiny_source, tmp_path, monkeypatch):
    words = ["sensitivity", str(tiny_source), "--quiet", "--out"]
    assert main([*words, str(tmp_path / "here.json")]) == 0
    without_a_cluster(monkeypatch, connects="exporter.cluster", runs="exporter.sensitivity_tasks")
    assert main([*words, str(tmp_path / "there.json"), "--ray"]) == 0
    here, there = figures(tmp_path / "here.json"), figures(tmp_path / "there.json")
    # float32 sums may come in another order.
    assert there == {key: pytest.approx(kl, rel=0.02, abs=1e-6) for key, kl in here.items()}
