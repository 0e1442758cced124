from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from jisu.exporter.sources.layers import find_layers, only_first_layers
from tests.support.models import llama_config, random_model


class Layer(nn.Module):
    def __init__(self, index, *, width=4, window=None):
        super().__init__()
        self.layer_idx = index
        self.window = window
        self.linear = nn.Linear(width, width)


def stack(*layers):
    model = nn.Module()
    model.layers = nn.ModuleList(layers)
    return model


def planned(model):
    layers = find_layers(model)
    return layers.traced, layers.total


def test_two_of_many_equal_layers_are_traced():
    assert planned(random_model(llama_config(layers=5, hidden=16, heads=2, kv_heads=1))) == (2, 5)


def test_the_path_of_the_layers_is_found():
    assert find_layers(random_model(llama_config(layers=3, hidden=16, heads=2, kv_heads=1))).path == "model.layers"


def test_alternating_layers_need_two_of_each_kind():
    from transformers import Gemma2Config

    config = Gemma2Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=6, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, vocab_size=384,
    )  # fmt: skip
    layers = find_layers(random_model(config))
    assert (layers.traced, layers.total) == (4, 6)
    assert [layers.template(layer) for layer in (4, 5)] == [2, 3]
    assert [layers.twin(layer) for layer in (2, 3)] == [0, 1]


@pytest.mark.parametrize(
    ("layers", "traced"),
    [
        ([Layer(i) for i in range(6)], 2),
        ([Layer(i, width=8 if i == 3 else 4) for i in range(6)], 4),
        ([Layer(i, width=8 if i == 5 else 4) for i in range(6)], 6),
        ([Layer(i, window=9 if i % 3 == 2 else None) for i in range(9)], 6),
        ([Layer(7 * i) for i in range(3)], 3),
        ([Layer(0)], 1),
    ],
    ids=["equal", "one wider", "last wider", "every third", "numbered otherwise", "single"],
)
def test_the_prefix_holds_every_kind_twice_or_all_there_are(layers, traced):
    assert planned(stack(*layers)) == (traced, len(layers))


def test_layers_of_another_class_or_type_are_another_kind():
    other = Layer(2)
    other.linear = nn.Linear(4, 4, bias=False)
    assert planned(stack(Layer(0), Layer(1), other)) == (3, 3)
    assert planned(stack(Layer(0), Layer(1), Layer(2).to(torch.float64))) == (3, 3)


def test_a_list_in_the_configuration_tells_layers_apart():
    class Configuration:
        def __init__(self):
            self.layer_types = ["full", "full", "sliding"]

    layers, config = [Layer(i) for i in range(3)], Configuration()
    for layer in layers:
        layer.config = config
    assert planned(stack(*layers)) == (3, 3)


def test_experts_of_a_layer_are_not_taken_for_layers():
    layers = [Layer(i) for i in range(3)]
    for layer in layers:
        layer.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert find_layers(stack(*layers)).path == "layers"


def test_a_module_without_a_list_has_no_plan():
    assert find_layers(nn.Linear(2, 2)) is None
    with only_first_layers(nn.Linear(2, 2), None):
        pass


def test_the_list_is_whole_again_after_an_exception():
    model = stack(*(Layer(i) for i in range(5)))
    layers, repeats = model.layers, find_layers(model)
    with pytest.raises(RuntimeError), only_first_layers(model, repeats):
        assert len(model.layers) == 2
        raise RuntimeError
    assert model.layers is layers


def test_a_switch_that_is_off_is_no_layer_number():
    """False equals 0: the first layer is like the others."""
    layers = [Layer(4) for _ in range(3)]
    for layer in layers:
        layer.scaled_by_layer_idx = False
    assert planned(stack(*layers)) == planned(stack(*(Layer(4) for _ in range(3))))


def test_a_tower_with_more_layers_than_the_decoder_is_not_taken_for_it():
    class Model(nn.Module):
        def __init__(self, encodes):
            super().__init__()
            self.tower, self.decoder = stack(*(Layer(i) for i in range(5))), stack(*(Layer(i) for i in range(3)))
            self.config = SimpleNamespace(is_encoder_decoder=encodes)

        def get_decoder(self):
            return self.decoder

    assert find_layers(Model(False)).path == "decoder.layers"
    assert find_layers(Model(True)).path == "tower.layers"  # both belong to it
