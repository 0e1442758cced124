"""Calibration and sensitivity on a real cluster, whose workers load a checkpoint; one is killed in the middle."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jisu import main
from jisu.calibration.statistics.statistics import Statistics
from jisu.exporter import calibrate, load_source
from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.worker_source import worker_source
from tests.support.ray_cluster import killing_a_worker


def test_calibration_that_loses_a_worker_collects_the_same_as_this_process(ray_cluster, tiny_source, tmp_path):
    sizes = {"windows": 20, "window_tokens": 32, "hessians": True}
    here = calibrate(tiny_source, tmp_path / "here", **sizes)
    with killing_a_worker("calibration windows", after=0.5) as killed:  # while it loads the checkpoint
        there = calibrate(tiny_source, tmp_path / "there", ray="local", **sizes)
    assert len(killed) == 1
    assert there.origin == here.origin
    assert there.groups == here.groups
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"]
    for index in range(len(here.groups)):
        one, other = here.read_group(index), there.read_group(index)
        assert one.tokens == other.tokens == 20 * 32
        # float32 sums may come in another order.
        assert np.allclose(one.sum_square, other.sum_square, rtol=1e-4)
        assert np.allclose(one.hessian, other.hessian, rtol=1e-2, atol=1e-4)
    # Finished ones are read, not collected again; and an export takes them.
    assert calibrate(tiny_source, tmp_path / "there", ray="nowhere:1", **sizes).windows_done == 20
    assert Statistics(tmp_path / "there").origin == here.origin


def test_sensitivity_that_loses_a_worker_measures_the_same_as_this_process(
    ray_cluster, tiny_source, tmp_path, monkeypatch
):
    monkeypatch.setattr("jisu.exporter.quantization.calibration_data.MIX_WINDOWS", 11)  # the least that there may be
    words = ["sensitivity", str(tiny_source), "--quiet", "--out"]
    assert main([*words, str(tmp_path / "here.json")]) == 0
    with killing_a_worker("sensitivity of 2") as killed:
        assert main([*words, str(tmp_path / "there.json"), "--ray"]) == 0
    assert len(killed) == 1
    here, there = figures(tmp_path / "here.json"), figures(tmp_path / "there.json")
    assert there == {key: pytest.approx(kl, rel=0.02, abs=1e-6) for key, kl in here.items()}


def test_a_module_in_memory_cannot_be_sent_to_a_cluster(tiny_source):
    source = load_source(tiny_source)
    with pytest.raises(InputError, match="workers of a cluster cannot load this model"):
        worker_source(source.module, tokenizer=source.tokenizer)


def figures(path):
    """(layers, format) -> nats of a file of sensitivities."""
    state = json.loads(path.read_text())
    groups = [group for index in sorted(state["layers"]) for group in state["layers"][index]] + state["tables"]
    return {(tuple(group["names"]), label): kl for group in groups for label, kl in group["kl"].items()}
