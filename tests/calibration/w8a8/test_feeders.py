from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jisu.calibration.w8a8.feeders import Feeder, _rescaled, find_feeders, fold_into_feeders
from jisu.calibration.w8a8.matmul import ActivationFormat, Int8Matmul
from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from tests.calibration.tiny_models import VOCABULARY, tiny_decoder

WINDOW = np.random.default_rng(0).integers(0, VOCABULARY, 60)
WIDTH, HEAD = 16, 4


class GroupedLayer(torch.nn.Module):
    """Two value heads that feed four heads of the output, and a gated product."""

    def __init__(self, *, bias: bool = False) -> None:
        super().__init__()
        self.value = torch.nn.Linear(WIDTH, 2 * HEAD, bias=bias)
        self.out = torch.nn.Linear(4 * HEAD, WIDTH, bias=False)
        self.gate = torch.nn.Linear(WIDTH, 32, bias=False)
        self.up = torch.nn.Linear(WIDTH, 32, bias=False)
        self.down = torch.nn.Linear(32, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = self.value(x).unflatten(-1, (2, HEAD)).cumsum(1).repeat_interleave(2, dim=2).flatten(2)
        x = x + self.out(value)
        return x + self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))


class GroupedModel(torch.nn.Module):
    def __init__(self, *, bias: bool = False) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.layers = torch.nn.ModuleList([GroupedLayer(bias=bias), GroupedLayer(bias=bias)])
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> SimpleNamespace:
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = layer(x)
        return SimpleNamespace(logits=self.head(x))


def grouped(*, bias: bool = False) -> GroupedModel:
    torch.manual_seed(0)
    return GroupedModel(bias=bias).eval()


def outcome(model) -> dict[str, Feeder]:
    return find_feeders(model, list(model.layers), WINDOW)


def test_the_product_of_a_gate_is_fed_by_the_other_factor():
    feeders = outcome(tiny_decoder())
    assert {reader: feeder.name for reader, feeder in feeders.items()} == {
        "layers.0.down": "layers.0.up",
        "layers.1.down": "layers.1.up",
    }
    assert feeders["layers.1.down"].rows.tolist() == list(range(64))


def test_one_row_of_a_value_head_feeds_several_channels():
    feeders = outcome(grouped())
    assert feeders["layers.0.out"].name == "layers.0.value"
    assert feeders["layers.0.out"].rows.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7]
    assert set(feeders) == {f"layers.{i}.{name}" for i in (0, 1) for name in ("out", "down")}


def test_values_that_reach_other_tokens_are_told_from_those_of_one_token():
    feeders = outcome(grouped())
    assert {name: feeder.crosses_tokens for name, feeder in feeders.items()} == {
        f"layers.{i}.{name}": crosses for i in range(2) for name, crosses in (("out", True), ("down", False))
    }


def test_a_layer_with_a_bias_feeds_nothing():
    assert set(outcome(grouped(bias=True))) == {"layers.0.down", "layers.1.down"}


def test_a_layer_whose_output_goes_elsewhere_too_feeds_nothing(monkeypatch):
    model = grouped()
    original = GroupedLayer.forward
    monkeypatch.setattr(GroupedLayer, "forward", lambda self, x: original(self, x) + self.up(x).sum(-1, keepdim=True))
    assert outcome(model) == {}


def test_the_model_is_as_before():
    model = grouped()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outcome(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_layer_at_a_time_is_rescaled_while_all_of_them_are_tried():
    model = tiny_decoder()
    feeders = outcome(model)
    own = [layer.up.weight.clone() for layer in model.layers]
    changed = []

    def see(*_):
        changed.append(
            [not torch.equal(layer.up.weight, before) for layer, before in zip(model.layers, own, strict=True)]
        )

    with _rescaled(model, list(model.layers), feeders):
        for layer in model.layers:
            layer.down.register_forward_pre_hook(see)
        model(torch.arange(4)[None])
    assert changed == [[True, False], [False, True]]


def test_scales_of_one_row_are_tied_and_handed_to_it():
    feeder = Feeder(name="value", rows=np.array([0, 0, 2]))
    tied = feeder.tie(np.array([1.0, 3.0, 5.0]))
    assert tied.tolist() == [2.0, 2.0, 5.0]
    assert feeder.row_scales(tied, 4).tolist() == [2.0, 1.0, 5.0, 1.0]


def blocks(weight: torch.Tensor, scales=None):
    """The weight in 8-bit blocks, its columns times the scales."""
    values = weight.detach().numpy() * (1 if scales is None else scales)
    result = round_to_nearest(values.astype(np.float32), BlockFormat(bits=8, block_size=16, symmetric=True), layer="x")
    return type(result)(
        codes=result.codes,
        scales=result.scales,
        zero_points=result.zero_points,
        format=result.format,
        channel_scales=scales,
    )


def integers(weight: torch.Tensor, scales=None):
    return Int8Matmul(
        codes=np.rint(weight.detach().numpy() * 100 * (1 if scales is None else scales)).astype(np.int8),
        scales=np.full(len(weight), 0.01, np.float32),
        format=ActivationFormat(activation=None),
        channel_scales=scales,
    )


@pytest.mark.parametrize("kind", [blocks, integers])
def test_folding_leaves_the_model_and_no_scales(kind):
    model = grouped()
    feeders = outcome(model)
    names = ("layers.0.value", "layers.0.out", "layers.0.up", "layers.0.down")
    quantized = {}
    for name in names:
        feeder = feeders.get(name)
        weight = model.get_submodule(name).weight
        random = np.random.default_rng(3).uniform(0.5, 2, weight.shape[1])
        quantized[name] = kind(weight, None if feeder is None else feeder.tie(random))

    def logits(parts):
        for name, part in parts.items():
            model.get_submodule(name).weight.data.copy_(torch.from_numpy(part.dequantize()))
        with torch.no_grad():
            return model(torch.from_numpy(WINDOW)[None]).logits

    truth = logits(quantized)
    folded = fold_into_feeders(quantized, feeders)
    assert all(part.channel_scales is None for part in folded.values())
    assert np.array_equal(folded["layers.0.up"].codes, quantized["layers.0.up"].codes), "only scales change"
    # Logits of up to 600, in float32.
    torch.testing.assert_close(logits(folded), truth, rtol=0, atol=2e-3)


def test_scales_stay_where_the_feeder_is_not_quantized():
    model = grouped()
    part = blocks(model.layers[0].down.weight, np.full(32, 2, np.float32))
    assert fold_into_feeders({"layers.0.down": part}, outcome(model)) == {"layers.0.down": part}
