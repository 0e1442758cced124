from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jisu import main
from jisu.benchmarks.compare.cluster_comparison import compare_on_cluster
from jisu.benchmarks.compare.run import ComparisonRequest, compare
from tests.benchmarks.fake_worker import fake_contestant
from tests.support.ray_cluster import killing_a_worker


def test_a_cluster_that_loses_a_worker_has_the_same_report(ray_cluster, tmp_path):
    body = "time.sleep(0.4)"
    contestants = [fake_contestant("first", body=body), fake_contestant("second", body=body, factor=2.0)]
    here = ComparisonRequest(
        artifacts=(Path("none"),),
        out=tmp_path / "here",
        workloads=("short-chat",),
        trials=2,
        threads=1,
        quality=False,
    )
    alone = compare(here, contestants=contestants)
    with killing_a_worker("second", after=0.5) as killed:
        there = compare_on_cluster(replace(here, out=tmp_path / "there"), contestants=contestants)
    assert len(killed) == 1
    assert set(there) == set(alone)
    for row, other in zip(there["rows"], alone["rows"], strict=True):
        assert (row["name"], row["failure"], row["size_bytes"]) == (other["name"], None, other["size_bytes"])
        figures, expected = row["measured"]["short-chat"], other["measured"]["short-chat"]
        assert figures["decode_tokens_per_s"] == expected["decode_tokens_per_s"]
        assert figures["decode_tokens_per_s"]["trials"] == 2
        assert row["machine"]["processor"] == there["machine"]["processor"]
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["report.json"]


def test_a_matrix_is_exported_measured_and_judged_on_a_cluster(ray_cluster, tiny, tmp_path):
    build = tmp_path / "build" / "source"
    build.mkdir(parents=True)
    (build / "int8").symlink_to(tiny.int8)
    path = tmp_path / "matrix.toml"
    path.write_text(f'models = ["{tiny.source}"]\nprecisions = ["int8"]\nbuild = "{tmp_path / "build"}"\n')
    words = ["compare", "--matrix", path, "--workloads", "short-chat", "--trials", "1", "--threads", "1", "--quiet"]
    assert main([str(word) for word in [*words, "--out", tmp_path / "report", "--ray"]]) == 0
    [row] = json.loads((tmp_path / "report" / "report.json").read_text())["rows"]
    assert (row["name"], row["failure"]) == ("int8 (ort-cpu)", None)
    gate = {check["name"]: check["value"] for check in row["gate"]["checks"]}
    assert row["quality"]["worst"]["mean_kl"] == pytest.approx(gate["mean-kl"], rel=0.5)
    files = [item.name for item in (tmp_path / "report").iterdir()]
    assert sorted(files) == ["junit.xml", "report.html", "report.json", "report.md"]
