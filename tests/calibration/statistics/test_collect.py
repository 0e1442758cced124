from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jisu.calibration.errors import ActivationError, CalibrationError, StatisticsError
from jisu.calibration.statistics.collect import CollectSettings, collect, observed_names, run_alone
from jisu.calibration.statistics.statistics import Statistics
from jisu.calibration.text.fingerprint import model_fingerprint
from jisu.calibration.text.windows import Windows, draw_windows
from tests.calibration.tiny_models import tiny_decoder, tiny_recurrent

WINDOWS = draw_windows(np.arange(200) * 7 % 32, count=6, length=12)
ALL = CollectSettings(hessians=True, save_every=2)


def inputs_of(model: torch.nn.Module, name: str) -> np.ndarray:
    seen = []
    handle = model.get_submodule(name).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach()[0].numpy())
    )
    for window in WINDOWS.ids:
        run_alone(model, window)
    handle.remove()
    return np.concatenate(seen)


@pytest.mark.parametrize("name", ["layers.0.key", "layers.1.down", "head"])
def test_the_sums_are_those_of_all_inputs(tmp_path: Path, name: str) -> None:
    model = tiny_decoder()
    actual = collect(model, WINDOWS, tmp_path, settings=ALL).of(name)
    inputs = inputs_of(model, name)

    assert actual.tokens == 72
    assert np.allclose(actual.mean_abs, np.abs(inputs).mean(axis=0), rtol=1e-5)
    assert np.allclose(actual.max_abs, np.abs(inputs).max(axis=0))
    assert np.allclose(actual.mean_square, np.square(inputs).mean(axis=0), rtol=1e-5)
    assert np.allclose(actual.hessian, inputs.T @ inputs / 72, atol=1e-5)


def test_layers_with_one_input_share_their_statistics(tmp_path: Path) -> None:
    statistics = collect(tiny_decoder(), WINDOWS, tmp_path)
    assert ("layers.1.query", "layers.1.key", "layers.1.value") in statistics.groups
    assert len(statistics.groups) == 7


def test_the_largest_output_is_kept_per_layer(tmp_path: Path) -> None:
    model = tiny_decoder()
    actual = collect(model, WINDOWS, tmp_path).of("layers.0.gate")
    inputs = inputs_of(model, "layers.0.gate")
    layer = model.layers[0]
    expected = [float(np.abs(inputs @ child.weight.detach().numpy().T).max()) for child in (layer.gate, layer.up)]

    assert actual.names == ("layers.0.gate", "layers.0.up")
    assert actual.output_max_abs == pytest.approx(expected, rel=1e-5)


def test_recurrent_layers_are_observed(tmp_path: Path) -> None:
    model = tiny_recurrent()
    actual = collect(model, WINDOWS, tmp_path).of("lstm")

    assert observed_names(model) == ("lstm", "head")
    assert np.allclose(actual.max_abs, np.abs(inputs_of(model, "lstm")).max(axis=0))
    assert 0 < actual.output_max_abs[0] < 1


def test_going_on_after_an_interruption_gives_the_same_bits(tmp_path: Path) -> None:
    model, calls = tiny_decoder(), 0

    def failing(model: torch.nn.Module, ids: np.ndarray) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:  # one probe and three windows; the last save was after two
            raise KeyboardInterrupt
        return run_alone(model, ids)

    with pytest.raises(KeyboardInterrupt):
        collect(model, WINDOWS, tmp_path / "cut", settings=ALL, run=failing)
    assert Statistics(tmp_path / "cut").windows_done == 2
    steps: list[int] = []
    resumed = collect(model, WINDOWS, tmp_path / "cut", settings=ALL, progress=lambda done, total: steps.append(done))
    whole = collect(model, WINDOWS, tmp_path / "whole", settings=ALL)

    assert steps == [3, 4, 5, 6]
    for names in whole.groups:
        one, other = whole.of(names[0]), resumed.of(names[0])
        assert (one.gram == other.gram).all()
        assert (one.sum_abs == other.sum_abs).all()
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["after-6", "statistics.json"]


def test_finished_statistics_are_not_collected_again(tmp_path: Path) -> None:
    model = tiny_decoder()
    collect(model, WINDOWS, tmp_path)

    def refuse(model: torch.nn.Module, ids: np.ndarray) -> Any:
        raise AssertionError("nothing is left to run")

    collect(model, WINDOWS, tmp_path, run=refuse)


def test_statistics_of_something_else_are_refused(tmp_path: Path) -> None:
    collect(tiny_decoder(), WINDOWS, tmp_path)
    other_windows = Windows(ids=WINDOWS.ids[:3], seed=0)

    with pytest.raises(StatisticsError, match="Received: another model. "):
        collect(tiny_decoder(seed=1), WINDOWS, tmp_path)
    with pytest.raises(StatisticsError, match="Received: other windows of text. "):
        collect(tiny_decoder(), other_windows, tmp_path)
    with pytest.raises(StatisticsError, match="Received: other settings. "):
        collect(tiny_decoder(), WINDOWS, tmp_path, settings=ALL)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_the_layer_and_the_window(tmp_path: Path, value: float) -> None:
    model = tiny_decoder()
    model.layers[0].value.weight.data[2, 2] = value
    with pytest.raises(ActivationError, match=r"output of layers.0.value.*window 0"):
        collect(model, WINDOWS, tmp_path)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not (tmp_path / "statistics.json").exists()


def test_kept_layers_are_not_observed(tmp_path: Path) -> None:
    statistics = collect(tiny_decoder(), WINDOWS, tmp_path, keep=lambda name: name == "head")
    with pytest.raises(StatisticsError, match="do not know the layer head"):
        statistics.of("head")


def test_requirements_are_checked(tmp_path: Path) -> None:
    model = tiny_decoder()
    statistics = collect(model, WINDOWS, tmp_path)
    statistics.require(model=model_fingerprint(model), windows=WINDOWS.sha256)

    with pytest.raises(StatisticsError, match="of another model"):
        statistics.require(model=model_fingerprint(tiny_decoder(seed=1)))
    with pytest.raises(StatisticsError, match="of another text"):
        statistics.require(model=model_fingerprint(model), windows="0" * 64)
    with pytest.raises(StatisticsError, match="hold no Hessian"):
        _ = statistics.of("head").hessian


def test_damaged_statistics_are_refused(tmp_path: Path) -> None:
    collect(tiny_decoder(), WINDOWS, tmp_path)
    file = tmp_path / "after-6" / "group-00000.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StatisticsError, match="is damaged"):
        Statistics(tmp_path).of("layers.0.query")

    index = json.loads((tmp_path / "statistics.json").read_text())
    for damage in ({"arrays": "../elsewhere"}, {"groups": [[{"a": 1}]]}, {"groups": [[]]}, {"groups": [[7]]}):
        (tmp_path / "statistics.json").write_text(json.dumps({**index, **damage}))
        with pytest.raises(StatisticsError, match="no usable statistics"):
            Statistics(tmp_path)


def test_statistics_with_any_bit_of_their_directory_flipped_are_read_or_refused(tmp_path: Path) -> None:
    collect(tiny_decoder(), WINDOWS, tmp_path)
    file = tmp_path / "after-6" / "group-00000.npz"
    whole, refused = file.read_bytes(), 0
    for number in range(8 * 46 * 3):  # headers of the first members, and what the archive says of them
        place = number // 8 if number % 2 else len(whole) - 1 - number // 8
        damaged = bytearray(whole)
        damaged[place] ^= 1 << number % 8
        file.write_bytes(damaged)
        try:
            Statistics(tmp_path).of("layers.0.query")
        except StatisticsError:
            refused += 1
    assert refused > 100


def test_an_empty_folder_holds_no_statistics(tmp_path: Path) -> None:
    with pytest.raises(StatisticsError, match="no usable statistics"):
        Statistics(tmp_path)


def test_saving_never_is_refused() -> None:
    with pytest.raises(CalibrationError, match="every 0 windows"):
        CollectSettings(save_every=0)
