from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch

from jisu.calibration.errors import ActivationError, TextError
from jisu.calibration.model import layer_walk
from jisu.calibration.model.layer_walk import HiddenStates, inference
from tests.calibration.tiny_models import TinyDecoder, tiny_decoder

WINDOWS = [np.arange(6), np.arange(6) + 10]


def walked(model: TinyDecoder) -> np.ndarray:
    with inference(model):
        states = HiddenStates(model, model.layers[0], WINDOWS)
        states.advance(model.layers[0], name="layers.0")
        output = np.stack([states.run(model.layers[1], i)[0].numpy() for i in range(len(states))])
        states.close()
    return output


def whole(model: TinyDecoder) -> np.ndarray:
    seen = []
    handle = model.layers[1].register_forward_hook(lambda _, inputs, output: seen.append(output[0].detach().numpy()))
    for window in WINDOWS:
        model(torch.from_numpy(window)[None])
    handle.remove()
    return np.stack(seen)


def test_walking_the_layers_gives_what_the_model_gives() -> None:
    model = tiny_decoder()
    assert np.allclose(walked(model), whole(model), atol=1e-6)


def test_states_above_the_limit_lie_in_a_file() -> None:
    model = tiny_decoder()
    with mock.patch.object(layer_walk, "IN_MEMORY", 0):
        assert np.allclose(walked(model), whole(model), atol=1e-6)


def test_arguments_that_are_the_same_for_all_windows_are_kept_once() -> None:
    model = tiny_decoder()
    with inference(model):
        states = HiddenStates(model, model.layers[0], WINDOWS)
    first, second = (named["mask"] for _, named in states._arguments)
    assert first is second


@pytest.mark.parametrize("windows", [[], [np.arange(3), np.arange(4)]])
def test_windows_of_unequal_lengths_or_none_are_refused(windows: list[np.ndarray]) -> None:
    model = tiny_decoder()
    with pytest.raises(TextError, match="all of one length"):
        HiddenStates(model, model.layers[0], windows)


def test_an_output_that_is_not_finite_names_the_layer() -> None:
    model = tiny_decoder()
    model.layers[0].down.weight.data[0, 0] = float("inf")
    with pytest.raises(ActivationError, match="the output of layers.0"):
        walked(model)


def test_the_mode_comes_back() -> None:
    model = tiny_decoder().train()
    with inference(model):
        assert not model.training
        assert not torch.is_grad_enabled()
    assert model.training
