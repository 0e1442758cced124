from __future__ import annotations

import pytest
import torch

from jisu.calibration.errors import ActivationError
from jisu.calibration.model.linear_groups import find_groups, linear_names
from tests.calibration.tiny_models import tiny_decoder


def test_layers_with_one_input_are_one_group_in_running_order() -> None:
    model = tiny_decoder()
    layer = model.layers[0]
    groups = find_groups(layer, lambda: layer(torch.randn(1, 4, 32), mask=torch.zeros(4, 4)), names=linear_names(layer))

    assert [group.names for group in groups] == [("query", "key", "value"), ("gate", "up"), ("down",)]


def test_a_layer_that_is_not_called_is_named() -> None:
    model = tiny_decoder()
    with pytest.raises(ActivationError, match="never reaches head"):
        find_groups(model, lambda: model.embedding(torch.tensor([1])), names=("head",))


def test_a_layer_that_is_not_called_can_be_accepted() -> None:
    model = tiny_decoder()
    groups = find_groups(model, lambda: None, names=("head", "layers.0.up"), require_all=False)

    assert [group.names for group in groups] == [("head",), ("layers.0.up",)]


def test_no_hook_is_left_behind() -> None:
    model = tiny_decoder()
    find_groups(model, lambda: model(torch.tensor([[1, 2]])), names=linear_names(model))
    assert not any(module._forward_pre_hooks for module in model.modules())
