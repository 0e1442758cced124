"""Layers on another device: here a CPU that plays one, with copies of the weights for as long as a layer runs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jisu.calibration.model.layer_walk import StopForwardError
from jisu.exporter.contract.errors import InputError
from jisu.exporter.export_job import check_request
from jisu.exporter.gate.layered_reference import LayeredReference
from jisu.exporter.gate.reference import TorchReference
from jisu.exporter.pipeline import export
from jisu.exporter.request import ExportRequest
from jisu.exporter.sources import compute_device
from jisu.exporter.sources.compute_device import check_device, computing_on, visits_device
from tests.support.models import llama_config, random_model

PLAYED = "cuda:0"


class Device:
    """Counts what goes there and back, and how much is there at once."""

    def __init__(self) -> None:
        self.sent = self.returned = 0

    def move(self, value: Any, device: torch.device) -> Any:
        if isinstance(value, torch.Tensor):
            self.sent += device.type != "cpu"
            self.returned += device.type == "cpu"
            return value.clone()
        return self.plain(value, device)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    played = Device()
    played.plain = compute_device._moved  # type: ignore[attr-defined]
    monkeypatch.setattr(compute_device, "_moved", played.move)
    return played


def addresses(model: Any) -> list[int]:
    return [parameter.data_ptr() for parameter in model.parameters()]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_weights_come_back_and_the_numbers_are_the_same(device: Device, mode: Any) -> None:
    model = random_model(llama_config(layers=3))
    ids, before = torch.arange(7)[None], addresses(model)
    with mode():
        expected = model(ids).logits
        with computing_on(PLAYED, model):
            actual = model(ids).logits
        assert device.sent > 3 * 7 and device.returned
        assert torch.equal(actual, expected) and addresses(model) == before
        device.sent = 0
        model(ids)
    assert device.sent == 0


def test_a_layer_that_is_ended_in_its_middle_gives_its_weights_back(device: Device) -> None:
    def end(*_: Any) -> None:
        raise StopForwardError

    model = random_model(llama_config(layers=2))
    before = addresses(model)
    with computing_on(PLAYED, model), torch.no_grad():
        model.model.layers[1].mlp.register_forward_pre_hook(end)
        with contextlib.suppress(StopForwardError):
            model(torch.arange(5)[None])
    assert device.sent and addresses(model) == before


def test_what_stands_in_for_a_layer_sends_no_weights(device: Device) -> None:
    model = random_model(llama_config(layers=2))
    layer = model.model.layers[0]
    with computing_on(PLAYED, model), torch.no_grad():
        layer.forward = lambda hidden, *_, **__: hidden
        assert torch.equal(layer(torch.ones(1, 2, 64)), torch.ones(1, 2, 64)) and not device.sent
        del layer.forward
        model(torch.arange(3)[None])
    assert device.sent


def test_the_truth_layer_by_layer_is_calculated_there_as_well(device: Device) -> None:
    model = random_model(llama_config(layers=3))
    tokens = np.arange(9, dtype=np.int64)
    plain = TorchReference(model)
    expected = plain.logits(tokens)
    layered = LayeredReference(plain, list(model.model.layers))
    with computing_on(PLAYED, model):
        assert layered.walks()
        device.sent = 0
        layered.prepare([tokens])
        assert device.sent
        np.testing.assert_array_equal(layered.logits(tokens), expected)


def test_an_export_has_the_same_bytes_and_says_what_calculated_it(
    tiny_source: Path, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jisu.exporter.export_job.check_device", lambda name: None)
    options: dict[str, Any] = {"precision": "int4", "max_kl": 9.0, "min_top1": 0.0, "max_perplexity_ratio": 99.0}
    plain = export(tiny_source, tmp_path / "plain", **options)
    assert not device.sent and "device" not in plain.manifest.quantization
    there = export(tiny_source, tmp_path / "there", device=PLAYED, **options)
    assert device.sent and there.manifest.quantization["device"] == PLAYED
    for name in ("model.onnx", "model.onnx.data"):
        assert (there.folder / name).read_bytes() == (plain.folder / name).read_bytes()


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "gpu", "", "tpu:1"])
def test_a_device_that_is_not_there_is_refused_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"--device {name}"):
        check_request(ExportRequest(checkpoint="none", out=tmp_path / "out", device=name))


def test_devices_that_torch_sees_are_allowed_up_to_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_device, "_accelerators", lambda: {"cuda": 2})
    for name in ("cpu", "cuda", "cuda:1"):
        check_device(name)
    for name in ("cuda:2", "mps"):
        with pytest.raises(InputError, match="Allowed: cpu, cuda"):
            check_device(name)


def test_a_layer_knows_whether_a_device_calculates_it() -> None:
    module = random_model(llama_config())
    layers: Any = module.model.layers
    assert not any(map(visits_device, layers))
    with computing_on("cpu:0", module):
        assert all(map(visits_device, layers))
        assert not visits_device(layers[0].mlp)
    assert not any(map(visits_device, layers))
