from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jisu.benchmarks.studies.rounding_study import is_wanted, open_report, save_report, score_rounded, study_parser
from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest


def options(path, *more):
    return study_parser("").parse_args(["model.gguf", "--out", str(path), *more])


def test_a_report_is_resumed_and_measured_rows_are_not_wanted_again(tmp_path):
    first = options(tmp_path / "r.json")
    report = open_report(first)
    assert report == {"checkpoint": "model.gguf", "texts": "development", "rows": {}}
    report["rows"]["a"] = {}
    save_report(first, report)
    again = open_report(first)
    assert [is_wanted(name, first, again) for name in "abc"] == [False, True, True]
    some = options(tmp_path / "r.json", "--only", "a; c")
    assert [is_wanted(name, some, again) for name in "abc"] == [False, False, True]


def test_a_report_of_other_texts_is_refused(tmp_path):
    save_report(options(tmp_path / "r.json"), open_report(options(tmp_path / "r.json")))
    with pytest.raises(AssertionError, match="other texts"):
        open_report(options(tmp_path / "r.json", "--texts", "gate"))


@pytest.mark.parametrize("fails", [False, True])
def test_rounded_weights_are_scored_and_the_own_ones_are_back_whatever_happens(fails):
    module = torch.nn.Linear(32, 4, bias=False)
    own = module.weight.detach().clone()
    form = BlockFormat(bits=4, block_size=32, symmetric=True)
    part = round_to_nearest(own.numpy(), form, layer="weight")
    seen = []

    def score(_):
        seen.append(module.weight.detach().numpy().copy())
        if fails:
            raise RuntimeError("no more")
        return {"prose": {"mean_kl": 0.1}}

    source = SimpleNamespace(module=module)
    if fails:
        with pytest.raises(RuntimeError, match="no more"):
            score_rounded(source, {"weight": part}, SimpleNamespace(score=score))
    else:
        assert score_rounded(source, {"weight": part}, SimpleNamespace(score=score)) == {"prose": {"mean_kl": 0.1}}
    np.testing.assert_array_equal(seen[0], part.dequantize())
    assert torch.equal(module.weight, own)
    assert not np.array_equal(seen[0], own.numpy())
