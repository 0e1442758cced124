"""Rounding without text on a real cluster, one of whose workers is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.export_job import check_request
from jisu.exporter.pipeline import export
from jisu.exporter.quantization import rounding_tasks
from jisu.exporter.request import ExportRequest
from jisu.exporter.sources import load_source
from tests.support.ray_cluster import killing_a_worker

LOOSE: dict[str, Any] = {"max_kl": 9.0, "min_top1": 0.0, "max_perplexity_ratio": 99.0}


def test_an_export_that_loses_a_worker_has_the_bytes_of_one_without(
    ray_cluster: None, tiny_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding_tasks, "WEIGHTS", 8)
    options: dict[str, Any] = {"precision": "int4", "calibration": "none", **LOOSE}
    here = export(tiny_source, tmp_path / "here", **options)
    with killing_a_worker("rounding of", after=0.5) as killed:  # while it loads the checkpoint
        there = export(tiny_source, tmp_path / "there", ray="local", **options)
    assert len(killed) == 1
    for name in ("model.onnx", "model.onnx.data"):
        assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()
    alone, shared = (one.manifest.gate["quality"] for one in (here, there))
    assert shared["worst_kl"] == pytest.approx(alone["worst_kl"], rel=1e-5)
    assert "on a cluster" in there.manifest.gate["reference"]


def test_a_module_in_memory_is_refused_before_anything_begins(tiny_source: Path, tmp_path: Path) -> None:
    module = load_source(tiny_source).module
    with pytest.raises(InputError, match="workers of a cluster cannot load this model"):
        check_request(ExportRequest(checkpoint=module, out=tmp_path / "out", ray="local"))
