"""Sensitivity from one walk against a run of the model for each layer and format."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import jisu
from jisu.calibration.errors import ActivationError
from jisu.exporter.contract.errors import InputError
from jisu.exporter.quantization import run as run_module
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.sensitivity import LAYER_FORMATS, measure_sensitivity
from jisu.exporter.quantization.walked_sensitivity import walk_all_formats
from jisu.exporter.quantization.weight_formats import FormatChoice, fit_block_size
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_llama


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("walked") / "source", layers=2)


@pytest.fixture(scope="module")
def source(checkpoint):
    return load_source(checkpoint)


@pytest.fixture(scope="module")
def data(source):
    return read_calibration_data(source, None, windows=22, window_tokens=32)


@pytest.fixture(scope="module")
def walked(source, data):
    before = {name: value.detach().numpy().copy() for name, value in source.module.named_parameters()}
    result = walk_all_formats(source, data, target="ort-cpu")
    assert all(np.array_equal(value.detach().numpy(), before[name]) for name, value in source.module.named_parameters())
    return result


def labels(sensitivity):
    return [set(unit.kl) for unit in sensitivity.units]


def test_every_layer_has_every_format_and_embeddings_come_last(source, data, walked):
    sensitivity, _ = walked
    assert sensitivity.units[-1].kind == "tables"
    layers = [unit for unit in sensitivity.units if unit.kind == "layers"]
    assert all(set(unit.kl) == set(unit.bytes) == {"fp32", *LAYER_FORMATS} for unit in layers)
    measured = measure_sensitivity(source, data)
    assert {name for unit in layers for name in unit.names} == {
        name for unit in measured.units if unit.kind == "layers" for name in unit.names
    }


def test_what_is_expected_is_about_what_is_measured(source, data, walked):
    def total(sensitivity, label):
        return sum(unit.kl[label] for unit in sensitivity.units if unit.kind == "layers")

    measured = measure_sensitivity(source, data)
    assert 0.3 < total(walked[0], "int4") / total(measured, "int4") < 3
    expected, actual = (one.units[-1].kl for one in (walked[0], measured))
    assert expected["int8"] == pytest.approx(actual["int8"], rel=1e-3), "rounded to the nearest in both"
    assert 0.3 < expected["int4"] / actual["int4"] < 3


def test_fewer_bits_cost_more_and_take_less(walked):
    for unit in walked[0].units:
        if unit.kind == "layers":
            assert unit.kl["int4"] > unit.kl["int5"] > unit.kl["int6"] > unit.kl["int8"] > unit.kl["fp32"] == 0
            assert unit.bytes["int4"] < unit.bytes["int5"] < unit.bytes["int6"] < unit.bytes["int8"]


def choice_of(source, walked, label):
    formats = {
        name: fit_block_size(LAYER_FORMATS[label], unit.features)
        for unit in walked[0].units
        if unit.kind == "layers"
        for name in unit.names
    }
    return FormatChoice(formats=formats, algorithm="gptq")


@pytest.mark.parametrize("label", ["int4", "int5"])
def test_a_choice_takes_the_codes_of_the_walk(source, data, walked, label, monkeypatch):
    choice = choice_of(source, walked, label)
    monkeypatch.setattr("jisu.exporter.quantization.quantize_source.walk_layers", None)
    actual = quantize_source(source, choice, data=data, windows=walked[1].windows, walked=walked[1])
    assert {part.format.bits for part in actual.by_name.values()} == {LAYER_FORMATS[label].bits}
    assert len(actual.by_name) == len(choice.formats)
    assert "in all formats at once" in actual.record["statistics"]


def test_the_fewest_bits_are_those_of_a_walk_of_their_own(source, data, walked):
    choice = choice_of(source, walked, "int4")
    walk = quantize_source(source, choice, data=data, windows=walked[1].windows)
    actual = quantize_source(source, choice, data=data, windows=walked[1].windows, walked=walked[1])
    for name, part in walk.by_name.items():
        np.testing.assert_array_equal(part.codes, actual.by_name[name].codes)
        np.testing.assert_array_equal(part.scales, actual.by_name[name].scales)


def test_an_output_projection_is_rounded_once_for_each_format(source, data, walked, monkeypatch):
    rounds = []
    module = "jisu.exporter.quantization.walked_sensitivity.quantize_output_projections"
    monkeypatch.setattr(module, lambda *inputs, **named: rounds.append(named["products"]) or {})
    layers = replace(walked[1], _projections={})
    six, five = (
        FormatChoice(formats={"lm_head": fit_block_size(LAYER_FORMATS[label], 64)}, algorithm="gptq")
        for label in ("int6", "int5")
    )
    for choice in (six, six, five, six):
        layers.output_projections(source, choice)
    assert len(rounds) == 2
    assert rounds[0] is rounds[1], "what enters it is the same for all formats"


def test_layers_that_are_rounded_again_keep_the_output_projection_of_the_walk(source, data, walked, monkeypatch):
    choice = choice_of(source, walked, "int5")
    marker = quantize_source(source, choice, data=data, windows=walked[1].windows).by_name
    name = next(iter(marker))
    monkeypatch.setattr(type(walked[1]), "output_projections", lambda self, *_: {"lm_head.weight": marker[name]})
    monkeypatch.setattr(type(walked[1]), "layers", None)
    again = quantize_source(source, choice, data=data, windows=walked[1].windows, walked=walked[1], again=True)
    np.testing.assert_array_equal(again.by_name["lm_head.weight"].codes, marker[name].codes)
    assert again.record["statistics"] == "sequential, layer after layer"
    np.testing.assert_array_equal(again.by_name[name].codes, marker[name].codes)


def test_layers_that_are_kept_are_not_walked(source, data):
    sensitivity, layers = walk_all_formats(source, data, target="ort-cpu", keep=["*.down_proj", "lm_head"])
    names = {name for unit in sensitivity.units for name in unit.names}
    assert not any(name.endswith("down_proj") for name in names)
    assert not names & {"lm_head", "model.embed_tokens"}, "one weight under two names"
    assert not any("down_proj" in name for name in layers.codes[0])


def test_what_calibration_finds_wrong_is_said_to_the_user(source, data, monkeypatch):
    def infinite(*values, **named):
        raise ActivationError("The input is not finite", received="inf", allowed="finite numbers", fix="Look at it.")

    monkeypatch.setattr("jisu.exporter.quantization.walked_sensitivity.walk_layers", infinite)
    with pytest.raises(InputError, match="not finite"):
        walk_all_formats(source, data, target="ort-cpu")


def test_files_that_hold_no_narrow_codes_have_none(source, data):
    sensitivity, _ = walk_all_formats(source, data, target="portable")
    assert all({"int5", "int6"}.isdisjoint(present) for present in labels(sensitivity))


def test_what_no_walk_reaches_is_measured(source, data, monkeypatch):
    monkeypatch.setattr("jisu.exporter.quantization.expected_costs.LARGEST", source.model.parameters - 1)
    assert walk_all_formats(source, data, target="ort-cpu") is None


def test_a_forward_without_gradients_is_measured(source, data):
    def changes(module, inputs, output):
        inputs[0].mul_(1)  # what the activation needs for its gradient

    handle = source.module.model.layers[1].mlp.act_fn.register_forward_hook(changes)
    try:
        said = []
        assert walk_all_formats(source, data, target="ort-cpu", say=said.append) is None
        assert "no gradients can be calculated" in said[0]
    finally:
        handle.remove()


def test_a_target_size_takes_one_walk(checkpoint, tmp_path, monkeypatch):
    walks = []
    walk = run_module.walk_all_formats
    monkeypatch.setattr(run_module, "walk_all_formats", lambda *args, **named: walks.append(1) or walk(*args, **named))
    words = ["export", str(checkpoint), "--quiet", "--max-kl", "9"]
    assert jisu.main([*words, "--target-size", "380kB", "--out", str(tmp_path / "small")]) == 0
    assert walks == [1]
    manifest = json.loads((tmp_path / "small" / "manifest.json").read_text())
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) <= 380_000
    assert {unit["format"] for unit in manifest["quantization"]["mix"]["units"]} <= {"fp32", *LAYER_FORMATS}
    assert "in all formats at once" in manifest["quantization"]["statistics"]


def test_the_smallest_within_a_divergence_is_rounded_again(checkpoint, tmp_path):
    assert jisu.main(["export", str(checkpoint), "--quiet", "--max-kl", "0.05", "--out", str(tmp_path / "close")]) == 0
    manifest = json.loads((tmp_path / "close" / "manifest.json").read_text())
    mix = manifest["quantization"]["mix"]
    assert mix["measured_kl"] <= 0.05
    assert mix["tries"][-1]["units"] == mix["tries"][-2]["units"], "the same choice once more"
    assert {unit["format"] for unit in mix["units"]} - {"int8", "fp32"}
