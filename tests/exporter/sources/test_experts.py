from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.sources.experts import (
    expert_name,
    expert_number,
    expert_weights,
    find_experts,
    matrices_in,
    named_weights,
    stacked_names,
)
from tests.support.mixtures import EXPERTS, small_mixture, small_transposed_mixture
from tests.support.models import llama_config, random_model


def test_a_name_says_which_expert_it_is_of_and_back():
    assert expert_name("model.layers.1.mlp.experts.down_proj", 3) == "model.layers.1.mlp.experts.3.down_proj"
    assert expert_name("down_proj", 0) == "0.down_proj"
    assert expert_number("model.layers.1.mlp.experts.3.down_proj") == 3


@pytest.mark.parametrize("make", [small_mixture, small_transposed_mixture])
def test_each_matrix_is_what_a_linear_layer_would_have_and_a_view_of_the_models(make):
    model = make()
    weights = expert_weights(model)
    assert len(weights) == 2 * 2 * EXPERTS
    hidden, inner = model.config.hidden_size, model.config.intermediate_size
    for name, matrix in weights.items():
        assert tuple(matrix.shape) == ((2 * inner, hidden) if "gate_up" in name else (hidden, inner))
    path, experts = next(iter(find_experts(model)))
    assert stacked_names(path, experts) == [f"{path}.gate_up_proj", f"{path}.down_proj"]
    view = matrices_in(experts, "down_proj")[2]
    view.zero_()
    assert not expert_weights(model)[f"{path}.2.down_proj.weight"].any()


def test_the_matrices_stand_for_the_parameters_that_hold_them():
    model = small_mixture()
    weights = named_weights(model)
    assert sum(weight.numel() for weight in weights.values()) == sum(part.numel() for part in model.parameters())
    assert all(weight.ndim < 3 for weight in weights.values())
    plain = random_model(llama_config())
    own = dict(plain.named_parameters())
    weights = named_weights(plain)
    assert set(weights) == set(own)
    assert all(np.shares_memory(weights[name].detach().numpy(), own[name].detach().numpy()) for name in own)
