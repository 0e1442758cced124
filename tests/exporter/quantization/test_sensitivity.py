from __future__ import annotations

import json

import pytest
import torch

import jisu
from jisu.exporter.contract.errors import InputError
from jisu.exporter.quantization import sensitivity
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.sensitivity import SCHEMA, check_sensitivity_file, measure_sensitivity, split_windows
from jisu.exporter.sources import load_source


@pytest.fixture(scope="module")
def source(tiny_source):
    return load_source(tiny_source)


@pytest.fixture(scope="module")
def data(source):
    return read_calibration_data(source, None, windows=11, window_tokens=32)


@pytest.fixture(scope="module")
def measured(source, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("measured") / "sensitivity.json"
    return measure_sensitivity(source, data, path=path), path


def test_windows_are_shared_out_without_overlap(data):
    shares = split_windows(data)
    assert {name: len(windows) for name, windows in shares.items()} == {"statistics": 8, "score": 1, "check": 2}


def test_too_little_text_is_refused(source):
    few = read_calibration_data(source, None, windows=10, window_tokens=32)
    with pytest.raises(InputError, match="too short to measure layers"):
        split_windows(few)


def test_units_are_groups_with_one_input_and_tables_come_last(measured):
    actual, _ = measured
    assert [unit.kind for unit in actual.units] == ["layers"] * 12 + ["tables"] * 2
    first = actual.units[0]
    assert [name.rsplit(".", 1)[1] for name in first.names] == ["q_proj", "k_proj", "v_proj"]
    assert first.elements == 64 * 64 + 2 * 32 * 64
    assert first.bytes["fp32"] == 4 * first.elements
    assert first.bytes["int8"] == first.elements + 2 * first.elements // 32  # scales of two bytes on ort-cpu
    assert first.kl["fp32"] == 0
    assert set(first.kl) == {"fp32", "int8", "int6", "int5", "int4", "int4-block32"}
    assert actual.units[-1].names in (("model.embed_tokens",), ("lm_head",))


def test_fewer_bits_cost_more(measured):
    units = [unit for unit in measured[0].units if unit.kind == "layers"]
    assert sum(unit.kl["int4"] for unit in units) > 5 * sum(max(0.0, unit.kl["int8"]) for unit in units)


def test_a_finished_file_is_only_read(source, data, measured, monkeypatch):
    actual, path = measured
    before = path.read_bytes()
    monkeypatch.setattr("jisu.calibration.sensitivity.measure_groups", None)
    monkeypatch.setattr(sensitivity, "measure_embeddings", None)
    assert measure_sensitivity(source, data, path=path) == actual
    assert path.read_bytes() == before
    other = measure_sensitivity(source, data, path=path, target="portable")
    narrow = {"int5", "int6"}
    assert not any(narrow & {*unit.kl, *unit.bytes} for unit in other.units), "its files hold no such codes"
    assert all(narrow & set(unit.kl) for unit in actual.units)
    assert other.units[0].bytes["int8"] == other.units[0].elements + 4 * other.units[0].elements // 32


def test_an_interrupted_measurement_goes_on_and_gives_the_same(source, data, measured, tmp_path, monkeypatch):
    path = tmp_path / "sensitivity.json"

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_sensitivity(source, data, path=path, progress=interrupt)
    assert sorted(json.loads(path.read_text())["layers"]) == ["0", "1"]
    assert measure_sensitivity(source, data, path=path) == measured[0]
    assert json.loads(path.read_text()) == json.loads(measured[1].read_text())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model", "0" * 64, "another model"),
        ("windows", "0" * 64, "other windows"),
        ("schema", SCHEMA + 1, "another schema"),
        ("candidates", {}, "other formats"),
    ],
)
def test_figures_of_something_else_are_refused(source, data, measured, tmp_path, key, value, words):
    state = json.loads(measured[1].read_text()) | {key: value}
    (tmp_path / "s.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match=words):
        measure_sensitivity(source, data, path=tmp_path / "s.json")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"layers": 3}', '{"layers": {"a": []}, "tables": []}', "\x00"])
def test_a_file_of_another_kind_is_one_sentence(source, data, tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match="cannot be read as a sensitivity file"):
        measure_sensitivity(source, data, path=tmp_path / "s.json")
    assert (tmp_path / "s.json").read_text() == content


@pytest.mark.parametrize("figure", ["x", None, float("nan"), float("inf"), [1]])
def test_figures_that_are_no_finite_numbers_are_refused_before_anything_begins(measured, data, tmp_path, figure):
    state = json.loads(measured[1].read_text())
    state["layers"]["1"][0]["kl"]["int4"] = figure
    (tmp_path / "s.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="no finite numbers"):
        check_sensitivity_file(tmp_path / "s.json", data)


def test_a_file_is_checked_before_it_is_used(measured, data, source, tmp_path):
    check_sensitivity_file(measured[1], data)
    check_sensitivity_file(tmp_path / "new.json", data)
    other = read_calibration_data(source, None, windows=12, window_tokens=32)
    with pytest.raises(InputError, match="other windows"):
        check_sensitivity_file(measured[1], other)


def test_weights_that_are_not_finite_are_found_first(tiny_source, data):
    broken = load_source(tiny_source)
    with torch.no_grad():
        broken.module.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj"):
        measure_sensitivity(broken, data)


def test_scored_windows_are_of_as_many_parts_as_there_are(source):
    data = read_calibration_data(source, None, windows=44, window_tokens=48)
    places = {window.tobytes(): part for window, part in zip(data.windows.ids, data.parts, strict=True)}
    shares = {share: [places[one.tobytes()] for one in kept] for share, kept in split_windows(data).items()}
    assert sorted(shares["score"]) == ["code", "own writing", "prompts", "prose"]
    assert (len(shares["statistics"]), len(shares["check"])) == (32, 8)
    assert len(set(shares["check"])) > 2


def test_the_command_measures_and_a_mix_uses_it(tiny_source, tmp_path, capsys):
    """From the command line to two published artifacts, whose choices can be read."""
    figures, out = tmp_path / "s.json", tmp_path / "mix"
    assert jisu.main(["sensitivity", str(tiny_source), "--out", str(figures), "--quiet"]) == 0
    words = ["export", str(tiny_source), "--sensitivity", str(figures), "--quiet"]
    assert jisu.main([*words, "--max-kl", "0.1", "--out", str(out)]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    quality = {check["name"]: check for check in manifest["gate"]["checks"]}
    assert quality["mean-kl"]["value"] <= quality["mean-kl"]["limit"] == 0.1
    mix = manifest["quantization"]["mix"]
    assert {unit["format"] for unit in mix["units"]} & {"int4", "int4-block32"}
    limit = sum(record["size"] for record in manifest["files"].values()) + 260_000  # room for records
    assert jisu.main([*words, "--target-size", str(limit), "--max-kl", "9", "--out", str(tmp_path / "small")]) == 0
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) <= limit
    assert jisu.main(["inspect", str(out)]) == 0
    said = capsys.readouterr().out
    assert "model.layers.0.self_attn.q_proj/k_proj/v_proj" in said
    assert "goal          max_kl 0.1" in said
    assert jisu.main([*words, "--target-size", str(limit), "--max-kl", "1e-7", "--out", str(tmp_path / "none")]) == 3
    assert "the budget is at most 1e-07" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
