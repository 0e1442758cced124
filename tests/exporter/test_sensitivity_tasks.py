from __future__ import annotations

import json

import pytest

from jisu import main
from tests.ray_cluster import killing_a_worker


def figures(path):
    state = json.loads(path.read_text())
    groups = [group for index in sorted(state["layers"]) for group in state["layers"][index]] + state["tables"]
    return {(tuple(group["names"]), label): kl for group in groups for label, kl in group["kl"].items()}


def test_a_cluster_that_loses_a_worker_measures_the_same_as_this_process(tiny_source, tmp_path):
    words = ["sensitivity", str(tiny_source), "--quiet", "--out"]
    assert main([*words, str(tmp_path / "here.json")]) == 0
    with killing_a_worker("sensitivity of", after=1.0) as killed:
        assert main([*words, str(tmp_path / "there.json"), "--ray"]) == 0
    assert len(killed) == 1
    here, there = figures(tmp_path / "here.json"), figures(tmp_path / "there.json")
    # A worker has one thread: float32 sums come in another order.
    assert there == {key: pytest.approx(kl, rel=0.02, abs=1e-6) for key, kl in here.items()}
