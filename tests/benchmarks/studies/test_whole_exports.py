from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jisu.benchmarks.studies import whole_exports

ROOT = Path(__file__).parents[3]


def write_artifact(folder):
    folder.mkdir(parents=True)
    domains = [
        {"name": "german", "judges": True, "mean_kl": 0.3},
        {"name": "chat", "judges": True, "mean_kl": 0.1},
        {"name": "korean", "judges": False, "mean_kl": 9.0},
    ]
    quality = {"worst": "german", "worst_kl": 0.3, "average_kl": 0.2, "domains": domains}
    (folder / "manifest.json").write_text(json.dumps({"gate": {"quality": quality}}), encoding="utf-8")
    stages = [{"name": "write", "seconds": 2.5, "peak_bytes": 7}]
    (folder / "timings.json").write_text(json.dumps({"stages": stages}), encoding="utf-8")


def test_a_row_is_what_the_gate_said_and_what_lies_in_the_folder(tmp_path):
    write_artifact(tmp_path / "one")
    (tmp_path / "one" / "model.data").write_bytes(bytes(1000))
    row = whole_exports.row_of(tmp_path / "one")
    assert row["bytes"] > 1000
    assert (row["worst_domain"], row["worst_kl"], row["mean_kl"]) == ("german", 0.3, 0.2)
    assert row["domains"] == {"german": 0.3, "chat": 0.1}, "a domain that does not judge is no figure"
    assert row["stages"] == {"write": 2.5}
    assert row["stage_peak_bytes"] == {"write": 7}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_children_is_counted():
    child = "import time; held = bytearray(b'x') * 150_000_000; time.sleep(1.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        assert whole_exports.peak_of_tree(process) > 150_000_000


def test_the_time_of_children_is_counted():
    before = whole_exports.children_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    assert whole_exports.children_seconds() - before > 0.02


def test_rows_are_added_and_none_is_measured_twice(tmp_path, monkeypatch, capsys):
    requests = []

    def measure(checkpoint, options, folder, *, threads):
        requests.append(options)
        write_artifact(folder)
        return {"seconds": 1.0, "cpu_seconds": 1.0, "peak_bytes": 10, **whole_exports.row_of(folder)}

    monkeypatch.setattr(whole_exports, "measure", measure)
    words = ["model.gguf", "--out", str(tmp_path / "rows.json"), "--work", str(tmp_path)]
    whole_exports.main([*words, "--export", "int8: --precision int8"])
    whole_exports.main([*words, "--export", "int8: --precision int8", "--export", "int4: --precision int4 --quiet"])
    assert requests == [["--precision", "int8"], ["--precision", "int4", "--quiet"]]
    report = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert list(report["rows"]) == ["int8", "int4"]
    assert "| int4 | 0 MB | 0.3000 (german) | 0.2000 | 1 s | 0.0 GB |" in capsys.readouterr().out


def test_the_page_shows_what_was_measured():
    report = json.loads((ROOT / "benchmarks/results/qwen2.5-coder-0.5b/exports.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/precision.md").read_text(encoding="utf-8").splitlines()
    missing = [line for line in whole_exports.table(report).splitlines()[2:] if line not in page]
    assert missing == []


def test_an_export_that_makes_nothing_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="ended with 2"):
        whole_exports.measure(str(tmp_path / "none.gguf"), ["--precision", "int8"], tmp_path / "out", threads=1)


def test_the_page_of_large_models_shows_what_was_measured():
    report = json.loads((ROOT / "benchmarks/results/large-models/exports.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/large-models.md").read_text(encoding="utf-8")
    for row in report["rows"]:
        figures = f"{row['seconds']:.0f} s | {row['peak_bytes'] / 1e9:.1f} GB | {row['bytes'] / 1e6:.0f} MB"
        assert f"| {row['model']} | {row['export']} | {figures} | {row['worst_kl']:.4f} |" in page
        stages = ("load", "trace", "quantize", "optimize and write", "verify")
        peaks = " | ".join(f"{row['stage_peak_bytes'][stage] / 1e9:.1f} GB" for stage in stages)
        assert f"| {row['model']} | {row['export']} | {peaks} |" in page
