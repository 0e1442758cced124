from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.expected_costs import (
    WINDOWS,
    can_observe,
    expected_costs,
    first_windows,
    observe_layers,
)
from jisu.exporter.quantization.rounding_tasks import round_weight
from jisu.exporter.sources import load_source, paged_weights
from jisu.exporter.sources.compute_device import computing_on
from tests.support.models import write_tiny_llama

EIGHT = WeightFormat(bits=8, block_size=32, symmetric=True)
LAYERS = [f"model.layers.{number}.mlp.{name}_proj" for number in (0, 1) for name in ("gate", "up", "down")]


@pytest.fixture(scope="module")
def source(tiny_source):
    return load_source(tiny_source)


@pytest.fixture(scope="module")
def data(source):
    return read_calibration_data(source, None, windows=22, window_tokens=32)


@pytest.fixture(scope="module")
def observed(source, data):
    return observe_layers(source, LAYERS, first_windows(data))


def test_costs_are_in_the_order_of_the_codes_and_fall_with_the_bits(source, observed):
    codes = [
        {
            f"{name}.weight": round_weight(source.module, name, WeightFormat(bits=bits, block_size=32, symmetric=True))
            for name in LAYERS
        }
        for bits in (4, 6)
    ]
    units = expected_costs(source, observed, codes, EIGHT)
    assert [unit.names for unit in units] == [
        names
        for number in (0, 1)
        for names in (
            (f"model.layers.{number}.mlp.gate_proj", f"model.layers.{number}.mlp.up_proj"),
            (f"model.layers.{number}.mlp.down_proj",),
        )
    ]
    for unit in units:
        four, six, eight = unit.costs
        assert four > 8 * six > 8 * 8 * eight > 0


def test_what_each_window_took_is_given_back(source, data, monkeypatch):
    trims = []
    monkeypatch.setattr("jisu.exporter.quantization.expected_costs.give_back_freed", lambda: trims.append(1))
    windows = first_windows(data)[:3]
    observe_layers(source, LAYERS, windows)
    assert len(trims) == len(windows)


def test_a_unit_that_codes_lack_is_left_out(source, observed):
    down = "model.layers.1.mlp.down_proj"
    codes = {f"{name}.weight": round_weight(source.module, name, EIGHT) for name in LAYERS if name != down}
    assert (down,) not in [unit.names for unit in expected_costs(source, observed, [codes], EIGHT)]


def test_windows_are_of_all_parts_alike_and_of_the_places_that_may_be_used(data):
    windows = first_windows(data)
    assert len(windows) == WINDOWS
    places = [place for place in range(len(data.parts)) if place % 2]
    usable = [data.windows.ids[place].tolist() for place in places]
    chosen = [window.tolist() for window in first_windows(data, places)]
    assert len(chosen) == len(places)
    assert all(window in usable for window in chosen)
    assert len({data.parts[places[usable.index(window)]] for window in chosen[:3]}) == 3


def test_a_layer_that_is_called_twice_is_left_out(source, data):
    own = source.module.model.layers[0].mlp.forward
    source.module.model.layers[0].mlp.forward = lambda x: own(own(x))
    try:
        names = {name for one in observe_layers(source, LAYERS, first_windows(data)[:2]) for name in one.names}
    finally:
        del source.module.model.layers[0].mlp.forward
    assert names == {name for name in LAYERS if ".1." in name}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_on_the_disk_and_those_of_two_bytes_show_the_same(tmp_path, monkeypatch, dtype):
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(paged_weights, "PAGED_FROM", 0)
    checkpoint = write_tiny_llama(tmp_path / "checkpoint")
    if dtype != "float32":
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=getattr(torch, dtype))
        model.save_pretrained(checkpoint)
    paged = load_source(checkpoint, scratch=tmp_path)
    assert paged.paged is not None
    assert paged.in_place == (dtype == "bfloat16")
    names = [f"model.layers.{number}.mlp.{name}_proj" for number in (0, 1) for name in ("gate", "up", "down")]
    windows = [np.arange(start, start + 32) for start in (3, 40)]
    actual = observe_layers(paged, names, windows)
    expected = observe_layers(load_source(checkpoint), names, windows)
    assert [one.names for one in actual] == [one.names for one in expected]
    assert sorted(name for one in actual for name in one.names) == sorted(names)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one.rows, other.rows, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.weights, other.weights, rtol=1e-3)


def test_layers_that_a_device_calculates_are_calculated_there(tmp_path, monkeypatch):
    monkeypatch.setattr(paged_weights, "PAGED_FROM", 0)
    paged = load_source(write_tiny_llama(tmp_path / "checkpoint"), scratch=tmp_path)
    visited = []
    with computing_on("cpu:0", paged.module):
        layer = paged.module.model.layers[1]
        layer.register_forward_hook(lambda part, *_: visited.append("forward" in vars(part)))
        observe_layers(paged, ["model.layers.1.mlp.down_proj"], [np.arange(3, 35)])
    assert visited == [False], "a layer whose forward is replaced stays on the CPU"


def test_memory_that_is_not_there_is_no_missing_gradient(source, data, monkeypatch):
    def full(*values, **named):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("jisu.calibration.expected_divergence.observe", full)
    with pytest.raises(torch.OutOfMemoryError):
        observe_layers(source, LAYERS, first_windows(data))


def test_a_model_too_large_is_not_observed(source, monkeypatch):
    assert can_observe(source)
    monkeypatch.setattr("jisu.exporter.quantization.expected_costs.LARGEST", source.model.parameters - 1)
    assert not can_observe(source)
