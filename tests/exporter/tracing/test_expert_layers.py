from __future__ import annotations

import pytest
import torch

from jisu.exporter.tracing.expert_layers import expert_layers
from tests.support.mixtures import EXPERTS, small_mixture, small_transposed_mixture
from tests.support.models import llama_config, random_model

IDS = torch.arange(5, 25)[None]


def logits_of(model):
    with torch.inference_mode():
        return model(IDS, use_cache=False).logits


@pytest.mark.parametrize("make", [small_mixture, small_transposed_mixture])
def test_the_model_computes_the_same_and_is_as_before_afterwards(make):
    model = make().eval()
    names = [name for name, _ in model.named_modules()]
    before, chosen = logits_of(model), model.config._experts_implementation
    with expert_layers(model):
        torch.testing.assert_close(logits_of(model), before, atol=1e-4, rtol=1e-4)
    assert [name for name, _ in model.named_modules()] == names
    assert model.config._experts_implementation == chosen
    assert torch.equal(logits_of(model), before)


def test_each_expert_sees_its_own_tokens_and_all_together_see_each_token_twice():
    model = small_mixture().eval()
    rows, parameters = {}, dict(model.named_parameters())
    with expert_layers(model):
        assert dict(model.named_parameters()).keys() == parameters.keys()
        for number in range(EXPERTS):
            layer = model.get_submodule(f"model.layers.0.mlp.experts.{number}.down_proj")
            assert layer.routed == "model.layers.0.mlp.experts.down_proj"
            layer.register_forward_pre_hook(lambda _, inputs, number=number: rows.update({number: len(inputs[0])}))
        logits_of(model)
    assert sum(rows.values()) == 2 * IDS.shape[1]
    assert len(set(rows.values())) > 1


def test_what_is_written_into_a_layer_is_what_the_model_computes_with():
    model = small_mixture().eval()
    before = logits_of(model)
    with expert_layers(model):
        model.get_submodule("model.layers.1.mlp.experts.0.gate_up_proj").weight.data.zero_()
    assert not torch.allclose(logits_of(model), before)
    assert not model.get_parameter("model.layers.1.mlp.experts.gate_up_proj")[0].any()


def test_one_within_another_and_models_without_experts_are_left_alone():
    model = small_mixture()
    with expert_layers(model):
        with expert_layers(model):
            pass
        assert model.get_submodule("model.layers.0.mlp.experts.0.down_proj")
    plain = random_model(llama_config())
    names = [name for name, _ in plain.named_modules()]
    with expert_layers(plain):
        assert [name for name, _ in plain.named_modules()] == names
