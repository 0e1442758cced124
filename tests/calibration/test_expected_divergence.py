from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from jisu.calibration.expected_divergence import SeenInput, observe
from tests.calibration.tiny_models import TinyDecoder, TinyLayer, tiny_decoder

NAMES = [f"layers.{i}.{name}" for i in (0, 1) for name in ("query", "key", "value", "gate", "up", "down")]
WINDOWS = [np.random.default_rng(seed).integers(0, 32, 24) for seed in range(60)]


def seen_by(model: TinyDecoder, *, names: list[str] = NAMES, windows: int = 60) -> list[SeenInput]:
    return observe(model, model.layers, names, WINDOWS[:windows], tokens=24)


def measured(name: str, difference: torch.Tensor) -> float:
    """Mean KL divergence in nats of the model with one weight changed."""
    model = tiny_decoder()
    with torch.no_grad():
        ids = torch.from_numpy(np.stack(WINDOWS))
        right = model(ids).logits.log_softmax(-1)
        model.get_submodule(name).weight += difference
        wrong = model(ids).logits.log_softmax(-1)
        return float((right.exp() * (right - wrong)).sum(-1).mean())


@pytest.fixture(scope="module")
def seen() -> list[SeenInput]:
    return seen_by(tiny_decoder())


def test_layers_of_one_input_and_one_shape_are_one(seen: list[SeenInput]) -> None:
    kinds = [("query", "key", "value"), ("gate", "up"), ("down",)]
    expected = [tuple(f"layers.{i}.{name}" for name in kind) for i in (0, 1) for kind in kinds]
    assert [one.names for one in seen] == expected
    assert {one.rows.shape[0] for one in seen} == {60 * 24}


@pytest.mark.parametrize("name", ["layers.0.value", "layers.0.down", "layers.1.gate", "layers.1.down"])
def test_the_expected_divergence_is_about_the_measured_one(seen: list[SeenInput], name: str) -> None:
    group = next(one for one in seen if name in one.names)
    shape = tiny_decoder().get_submodule(name).weight.shape
    ratios = []
    for seed in range(4):
        change = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        differences = [(change if one == name else torch.zeros(shape)).numpy() for one in group.names]
        ratios.append(group.divergence(differences) / measured(name, change))
    # Outputs weigh alike here and do not in a model; the order of layers is what is wanted of it.
    assert 0.5 < np.exp(np.mean(np.log(ratios))) < 2, ratios


def test_what_cannot_reach_the_predictions_costs_nothing() -> None:
    model = tiny_decoder()
    model.layers[1].down.weight.data.zero_()  # what gate and up of the last layer make goes nowhere
    group = next(one for one in seen_by(model, windows=2) if "layers.1.gate" in one.names)
    assert group.divergence([np.ones((64, 32), np.float32)] * 2) == 0


def test_the_model_is_as_it_was() -> None:
    model = tiny_decoder().train()
    model.head.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen_by(model, windows=2)
    assert model.training
    assert [name for name, value in model.named_parameters() if not value.requires_grad] == ["head.weight"]
    assert all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_layer_that_no_gradient_reaches_is_left_out() -> None:
    model = tiny_decoder()
    value = model.layers[1].value
    value.forward = lambda x, linear=value.forward: linear(x).detach()
    assert not any("layers.1.value" in one.names for one in seen_by(model, windows=2))


def test_nothing_is_said_of_a_model_whose_logits_are_not_finite() -> None:
    model = tiny_decoder()
    model.layers[1].down.weight.data[0, 0] = float("inf")
    assert seen_by(model, windows=1) == []


def test_the_same_seed_sees_the_same(seen: list[SeenInput]) -> None:
    again = seen_by(tiny_decoder())
    assert all(np.array_equal(one.weights, other.weights) for one, other in zip(seen, again, strict=True))


class Router(torch.nn.Linear):
    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: A002 - torch's name
        scores = super().forward(input)
        return scores, scores.argmax(-1)


class RoutedLayer(TinyLayer):
    def __init__(self) -> None:
        super().__init__()
        self.router = Router(32, 2)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.router(hidden_states)
        return super().forward(hidden_states, mask)


def test_a_layer_that_gives_several_tensors_is_left_out() -> None:
    model = tiny_decoder()
    model.layers[0] = RoutedLayer()
    names = {name for one in seen_by(model, names=[*NAMES, "layers.0.router"], windows=1) for name in one.names}
    assert names == set(NAMES)


def test_activations_that_are_computed_again_say_the_same(seen: list[SeenInput]) -> None:
    """With hooks around a layer that bring its weights, as for one that is read where it lies."""
    model, kept, calls = tiny_decoder(), [], []
    own = {name: value.detach().clone() for name, value in model.layers[1].named_parameters()}

    def bring(module: torch.nn.Module, inputs: object) -> None:
        calls.append(module)
        for name, value in module.named_parameters():
            value.data = own[name].clone()

    def take(module: torch.nn.Module, inputs: object, output: object) -> None:
        for value in module.parameters():
            value.data = torch.empty(value.shape).fill_(float("nan"))

    model.layers[1].register_forward_pre_hook(bring)
    model.layers[1].register_forward_hook(take, always_call=True)

    def put_aside(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor.clone()

    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    model.layers[0].down.register_forward_pre_hook(lambda _, inputs: held.append(weakref.ref(inputs[0])))
    model.head.register_forward_pre_hook(lambda *_: alive.append(sum(one() is not None for one in held)))

    actual = observe(model, model.layers, NAMES, WINDOWS, tokens=24, put_aside=put_aside, recompute=True)
    assert len(alive) == len(WINDOWS)
    assert not any(alive), "what entered a layer within was held until the backward pass"
    assert [one.names for one in actual] == [one.names for one in seen]
    for one, other in zip(actual, seen, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.weights, other.weights)
    assert len(calls) == 2 * len(WINDOWS), "once forward, once for the backward pass"
    assert len(kept) == (len(WINDOWS) + 1) * len(seen)
    assert not any("forward" in vars(layer) for layer in model.layers)
