from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from jisu.benchmarks.compare.contestants import Contestant, artifact_contestants
from jisu.benchmarks.compare.peer_contestants import peer_contestants
from jisu.benchmarks.compare.run import ComparisonRequest, compare
from jisu.benchmarks.report.report import read_report
from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.domains import BUILT_IN
from tests.benchmarks.fake_worker import fake_contestant


def request(tiny, out, **changes):
    options = {"artifacts": (tiny.fp32, tiny.int8), "workloads": ("short-chat",), "trials": 2, "threads": 1, "out": out}
    return ComparisonRequest(**{**options, **changes})


@pytest.fixture(scope="module")
def compared(tiny, tmp_path_factory):
    """A damaged copy among them."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(tiny.fp32, folder / "damaged")
    (folder / "damaged" / "model.onnx").unlink()
    artifacts = (tiny.fp32, tiny.int8, folder / "damaged")
    return compare(request(tiny, folder / "report", artifacts=artifacts), command=["jisu", "compare", "a b"]), folder


def test_rows_have_speed_and_quality_side_by_side(compared):
    report, folder = compared
    assert read_report(folder / "report" / "report.json") == report
    assert report["command"] == "jisu compare 'a b'"
    fp32, int8, _ = report["rows"]
    for row in (fp32, int8):
        figures = row["measured"]["short-chat"]
        assert figures["decode_tokens_per_s"]["median"] > 0
        assert figures["decode_tokens_per_s"]["trials"] == 2
        assert figures["share_of_bandwidth"] > 0
        assert row["peak_bytes"] >= row["resident_bytes"] > 1e7
        assert row["load_s"] > 0
        assert list(row["quality"]["sets"]) == list(BUILT_IN)
        assert row["quality"]["average"]["domains"] >= 20
        assert row["quality"]["greedy"]["tokens"] == 96
        assert sum(item["share"] for item in row["operators"]) == pytest.approx(1.0)
    assert "MatMulNBits" in [item["operator"] for item in int8["operators"]]
    assert fp32["quality"]["worst"]["mean_kl"] < 1e-9
    assert 1e-6 < int8["quality"]["worst"]["mean_kl"] < 0.1
    assert "torch" in report["reference"]["description"]


def test_quality_is_the_gates_own(compared):
    report, _ = compared
    int8 = report["rows"][1]
    gate = {domain["name"]: domain for domain in int8["gate"]["quality"]["domains"]}
    for name, figures in int8["quality"]["sets"].items():
        # The gate stops reading where its verdict is clear: its interval is of the first of these tokens.
        low, high = gate[name]["intervals"]["mean_kl"]
        assert low / 2 < figures["mean_kl"] < 2 * high
        assert gate[name]["tokens"] <= figures["tokens"]


def test_a_damaged_artifact_is_a_row_without_figures(compared):
    report, _ = compared
    damaged = report["rows"][2]
    assert "model.onnx is missing" in damaged["failure"]
    assert (damaged["measured"], damaged["quality"]) == ({}, None)
    assert 2 not in report["pareto"]


def test_nothing_is_left_behind(compared):
    _, folder = compared
    assert [path.name for path in (folder / "report").iterdir()] == ["report.json"]


def test_a_contestant_that_turns_to_nan_has_no_figures_at_all(tiny, tmp_path):
    nan = fake_contestant(
        "nan", body="if len(requests) > 2: raise ValueError('the largest logit is nan')", factor=0.001
    )
    good = fake_contestant("good")
    report = compare(request(tiny, tmp_path, quality=False), contestants=[nan, good])
    assert "nan" in report["rows"][0]["failure"]
    assert report["rows"][0]["measured"] == {}
    assert report["rows"][1]["measured"]["short-chat"]["decode_tokens_per_s"]["median"] == pytest.approx(100.0)


def test_an_fp32_artifact_stands_in_for_a_source_that_is_gone(tiny, tmp_path):
    for name in ("fp32", "int8"):
        shutil.copytree(getattr(tiny, name), tmp_path / name)
        (tmp_path / name / "timings.json").unlink()  # which knows where the source lies
    artifacts = (tmp_path / "int8", tmp_path / "fp32")
    report = compare(request(tiny, tmp_path / "report", artifacts=artifacts, trials=1))
    assert report["reference"]["name"] == "fp32 (ort-cpu)"
    assert "was not found" in report["reference"]["problems"][0]
    assert report["rows"][0]["quality"]["worst"]["mean_kl"] > 1e-6


def test_an_artifact_of_another_source_is_timed_and_not_judged(tiny, tmp_path):
    shutil.copytree(tiny.int8, tmp_path / "tuned")
    manifest = json.loads((tmp_path / "tuned" / "manifest.json").read_text())
    for record in manifest["source"]["files"].values():
        record["sha256"] = "0" * 64
    (tmp_path / "tuned" / "manifest.json").write_text(json.dumps(manifest))
    report = compare(request(tiny, tmp_path / "report", artifacts=(tiny.fp32, tmp_path / "tuned"), trials=1))
    tuned = report["rows"][1]
    assert tuned["measured"]["short-chat"]["decode_tokens_per_s"]["median"] > 0
    assert tuned["quality"]["sets"] == {}
    assert "another source" in tuned["quality"]["reason"]


def test_peers_stand_beside_in_speed_and_quality(tiny, tmp_path):
    """onnxruntime-genai runs our folder unmodified; transformers runs the source."""
    shutil.copytree(tiny.int8, tmp_path / "peers" / "genai-int4")
    peers, missing = peer_contestants(tmp_path / "peers", Path("/nowhere/python"), threads=1)
    assert "genai int4" not in missing
    program = (sys.executable, "-m", "jisu.benchmarks.peers.run_transformers", str(tiny.source), "1", "eager")
    peers.append(Contestant(name="transformers", command=program, facts={"engine": "transformers"}))
    ours = artifact_contestants([tiny.int8], ["ort-cpu"], threads=1, source=None)
    options = {"workloads": ("short-chat", "batch-4"), "trials": 1}
    report = compare(request(tiny, tmp_path / "report", **options), contestants=[*ours, *peers])
    int8, genai, transformers = report["rows"]
    assert [row["failure"] for row in report["rows"]] == [None] * 3
    assert genai["measured"]["short-chat"]["decode_tokens_per_s"]["median"] > 0
    assert "one prompt at a time" in genai["measured"]["batch-4"]["unsupported"]
    assert transformers["measured"]["batch-4"]["decode_tokens_per_s"]["median"] > 0
    # The same graph in another runtime has the same predictions, and the source its own.
    expected = int8["quality"]["worst"]["mean_kl"]
    assert genai["quality"]["worst"]["mean_kl"] == pytest.approx(expected, rel=1e-3)
    assert transformers["quality"]["worst"]["mean_kl"] < 1e-9
    assert transformers["quality"]["greedy"]["agreement"] == 1.0


def test_a_workload_that_is_too_long_for_the_model_is_said(tiny, tmp_path):
    report = compare(
        request(tiny, tmp_path, workloads=("short-chat", "long-prompt"), trials=1, quality=False),
        contestants=None,
    )
    assert list(report["skipped_workloads"]) == ["long-prompt"]
    with pytest.raises(InputError, match="No workload fits"):
        compare(request(tiny, tmp_path, workloads=("long-prompt",)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"artifacts": ()}, "nothing to compare"),
        ({"trials": 0}, "--trials is too small"),
        ({"threads": -1}, "--threads is too small"),
        ({"time_limit": 0.0}, "--time-limit is out of range"),
        ({"time_limit": float("nan")}, "--time-limit is out of range"),
    ],
)
def test_bad_options_are_errors(tiny, tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        request(tiny, tmp_path, **changes)


def test_a_report_within_an_artifact_is_refused(tiny):
    before = sorted(tiny.int8.iterdir())
    with pytest.raises(InputError, match="cannot be written into an artifact"):
        compare(ComparisonRequest(artifacts=(tiny.int8,), out=tiny.int8 / "report", trials=1, threads=1))
    assert sorted(tiny.int8.iterdir()) == before
