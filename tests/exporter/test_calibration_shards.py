from __future__ import annotations

import numpy as np
import pytest

from calibration.statistics import Statistics
from exporter import calibrate, load_source
from exporter.errors import InputError
from tests.rerun_tasks import without_a_cluster


def test_tasks_that_are_lost_and_run_again_collect_the_same_as_this_process(tiny_source, tmp_path, monkeypatch):
    sizes = {"windows": 20, "window_tokens": 32, "hessians": True}
    here = calibrate(tiny_source, tmp_path / "here", **sizes)
    without_a_cluster(monkeypatch, connects="exporter.activation_statistics", runs="exporter.calibration_shards")
    there = calibrate(tiny_source, tmp_path / "there", ray="local", **sizes)
    assert there.origin == here.origin
    assert there.groups == here.groups
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"]
    for index in range(len(here.groups)):
        one, other = here.read_group(index), there.read_group(index)
        assert one.tokens == other.tokens == 20 * 32
        assert np.allclose(one.sum_square, other.sum_square, rtol=1e-4)
        assert np.allclose(one.hessian, other.hessian, rtol=1e-2, atol=1e-4)
        assert one.histogram is not None and other.histogram is not None
        assert one.histogram.total == other.histogram.total
    # Finished ones are read, not collected again; and an export takes them.
    assert calibrate(tiny_source, tmp_path / "there", ray="nowhere:1", **sizes).windows_done == 20
    assert Statistics(tmp_path / "there").origin == here.origin


def test_a_module_in_memory_cannot_be_sent_to_a_cluster(tiny_source, tmp_path):
    source = load_source(tiny_source)
    with pytest.raises(InputError, match="A cluster's workers cannot load this model"):
        calibrate(source.module, tmp_path / "out", tokenizer=source.tokenizer, ray="local", windows=2, window_tokens=8)
