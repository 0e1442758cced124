from __future__ import annotations

import json
from dataclasses import replace

import pytest

import jisu
from jisu.exporter.calibration_run import calibrate
from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.evaluation_text import read_evaluation_text
from jisu.exporter.precision.precision import precision_named
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.from_statistics import has_hessians
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.weight_formats import choose_formats
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_llama

FEW = {"windows": 12, "window_tokens": 32}


@pytest.fixture(scope="module")
def collected(tiny_source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("statistics") / "stats"
    return calibrate(tiny_source, folder, hessians=True, **FEW), folder


def test_statistics_know_every_layer_and_their_windows(collected, tiny_source):
    actual, folder = collected
    source = load_source(tiny_source)
    layers = {matrix.name for matrix in matrices_of(source.module) if not matrix.embedding}
    assert layers <= {name for group in actual.groups for name in group}
    assert actual.windows_done == 12
    data = read_calibration_data(source, folder, evaluation=read_evaluation_text(None).text)
    assert data.windows.ids.shape == (12, 32)
    assert data.record["folder"] == "stats"


def test_int4_from_statistics_runs_no_model_and_is_nearly_as_good(collected, tiny_source, monkeypatch):
    import numpy as np

    _, folder = collected
    source = load_source(tiny_source)
    choice = replace(choose_formats(matrices_of(source.module), precision_named("int4")), spread=None)
    data = read_calibration_data(source, folder)
    assert has_hessians(data.statistics)
    sequential = quantize_source(source, choice, data=data, windows=data.windows.as_list())
    monkeypatch.setattr("jisu.calibration.sequential.quantize_sequentially", None)
    one_shot = quantize_source(source, choice, data=data)
    assert one_shot.record["statistics"] == "one-shot, from stats/"
    assert sequential.record["statistics"].startswith("sequential")
    assert set(one_shot.by_name) == set(sequential.by_name)
    # The first group of the first layer sees the same inputs either way.
    name = "model.layers.0.self_attn.q_proj.weight"
    np.testing.assert_array_equal(one_shot.by_name[name].codes, sequential.by_name[name].codes)


def test_a_second_run_with_the_same_settings_only_reads(collected, tiny_source, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in collected[1].iterdir() if path.suffix == ".npz"}
    again = calibrate(tiny_source, collected[1], hessians=True, **FEW)
    assert again.windows_done == 12
    assert {path.name: path.stat().st_mtime_ns for path in collected[1].iterdir() if path.suffix == ".npz"} == before


def test_statistics_of_another_model_are_refused(collected, tmp_path):
    other = load_source(write_tiny_llama(tmp_path / "other", layers=3, tied=False, vocab=384, seed=1))
    with pytest.raises(InputError, match="of another model"):
        read_calibration_data(other, collected[1])


def test_a_folder_with_other_files_and_statistics_as_text_are_refused(collected, tiny_source, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="cannot hold statistics"):
        calibrate(tiny_source, tmp_path, **FEW)
    with pytest.raises(InputError, match="holds statistics, not text"):
        calibrate(tiny_source, tmp_path / "out", data=collected[1], **FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_outline_may_use_them_although_it_has_no_weights(collected, tiny_source):
    outline = load_source(tiny_source, outline=True)
    assert len(read_calibration_data(outline, collected[1]).windows.ids) == 12


def test_an_outline_of_more_layers_is_refused(collected, tmp_path):
    other = load_source(write_tiny_llama(tmp_path / "other", layers=4, tied=False, vocab=384), outline=True)
    with pytest.raises(InputError, match="of another model"):
        read_calibration_data(other, collected[1])


def test_the_command_collects_and_an_export_uses_it(tiny_source, tmp_path, capsys):
    stats, out = tmp_path / "stats", tmp_path / "out"
    words = ["calibrate", str(tiny_source), "--out", str(stats), "--windows", "12", "--window-tokens", "64"]
    assert jisu.main(words) == 0
    assert f"--calibration {stats}" in capsys.readouterr().out
    words = ["export", str(tiny_source), "--out", str(out), "--precision", "int4", "--calibration", str(stats)]
    assert jisu.main([*words, "--max-kl", "1", "--min-top1", "0", "--max-ppl-ratio", "9", "--quiet"]) == 0
    record = json.loads((out / "manifest.json").read_text())["quantization"]["calibration"]
    assert (record["windows"], record["folder"]) == (12, "stats")
