from __future__ import annotations

import pytest

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
from jisu.exporter.sources import load_source

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


def test_a_model_too_large_is_not_observed(source, monkeypatch):
    assert can_observe(source)
    monkeypatch.setattr("jisu.exporter.quantization.expected_costs.LARGEST", source.model.parameters - 1)
    assert not can_observe(source)
