"""Recurrent layers on the graph, against torch, at lengths and batches that no example of the trace has."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.tracing.recurrent_layers import HOLDER, onnx_weights, recurrent_operators
from jisu.exporter.tracing.trace import trace
from tests.support.own_modules import Recurrent, Stateless, seeded

LAYERS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN, "relu": partial(nn.RNN, nonlinearity="relu")}
SHAPES = [(1, 1), (2, 9), (3, 4), (1, 60)]


def session_of(graph):
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    return import_onnxruntime().InferenceSession(
        ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_any_length_and_batch_continue_from_any_state_and_again_in_a_second_trace(layer):
    """torch's own exporter freezes the example's length here, and differs between the first and the second time."""
    module = seeded(Recurrent, LAYERS[layer]).eval()
    with torch.no_grad():  # without gates, large weights would magnify every rounding from token to token
        for weight in module.layers.parameters():
            weight.mul_(0.3)
    graphs = [trace(module, module.state_spec()) for _ in range(2)]
    assert [node.op_type for node in graphs[0].graph] == [node.op_type for node in graphs[1].graph]
    for session in map(session_of, graphs):
        for rows, tokens in SHAPES:
            ids = torch.arange(rows * tokens).reshape(rows, tokens) * 7 % 384
            state = [torch.randn(2, rows, 48) for _ in module.state_spec()]
            with torch.inference_mode():
                logits, after = module(ids, torch.zeros(rows, dtype=torch.int64), state)
            names = [f"past_state.{name}" for name, *_ in module.state_spec()]
            feeds = {"input_ids": ids.numpy(), **dict(zip(names, (one.numpy() for one in state), strict=True))}
            actual, *states = session.run(None, feeds)
            np.testing.assert_allclose(actual, logits.numpy(), atol=2e-5)
            for one, other in zip(states, after, strict=True):
                np.testing.assert_allclose(one, other.numpy(), atol=2e-5)


OPTIONS = [
    {"bidirectional": True},
    {"bidirectional": True, "num_layers": 2},
    {"bias": False},
    {"batch_first": False},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_every_form_of_a_layer_gives_torchs_numbers(layer, options):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, 8)
            self.layer = layer(8, 6, **{"batch_first": True, **options})

        def forward(self, ids):
            hidden = self.embedding(ids)
            if not self.layer.batch_first:
                return self.layer(hidden.transpose(0, 1))[0].transpose(0, 1)
            return self.layer(hidden)[0]

    module = seeded(Model).eval()
    session = session_of(trace(module, []))
    for rows, tokens in SHAPES:
        ids = torch.arange(rows * tokens).reshape(rows, tokens) % 20
        with torch.inference_mode():
            expected = module(ids).numpy()
        np.testing.assert_allclose(session.run(None, {"input_ids": ids.numpy()})[0], expected, atol=2e-5)


def test_weights_have_the_checkpoints_names_and_the_layers_are_whole_afterwards():
    module = seeded(Recurrent).eval()
    graph = trace(module, module.state_spec())
    assert {"layers.weight_ih_l0", "layers.weight_hh_l1", "layers.bias_l0"} <= set(graph.graph.initializers)
    assert not any(HOLDER in name for name, _ in module.named_modules())
    held = onnx_weights(module)
    for name in ("layers.weight_ih_l0", "layers.weight_hh_l1"):
        np.testing.assert_array_equal(graph.graph.initializers[name].const_value.numpy(), held[name].numpy())


def test_layers_are_whole_after_a_trace_that_failed():
    module = seeded(Stateless)
    with pytest.raises(RuntimeError), recurrent_operators(module):
        raise RuntimeError
    assert not any(HOLDER in name for name, _ in module.named_modules())
    assert module(torch.ones(1, 3, dtype=torch.int64)).shape == (1, 3, 384)


class Residual(nn.LSTM):
    """A class of the user's own on top of torch's."""

    def forward(self, hidden):
        output, _ = super().forward(hidden)
        return hidden + output


def test_a_class_on_top_of_a_layer_keeps_what_it_adds():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.layer = nn.Embedding(20, 6), Residual(6, 6, batch_first=True)

        def forward(self, ids):
            return self.layer(self.layer(self.embedding(ids)))  # twice, with the same weights

    module, ids = seeded(Model).eval(), torch.arange(14).reshape(2, 7)
    before = nn.LSTM.forward
    actual = session_of(trace(module, [])).run(None, {"input_ids": ids.numpy()})[0]
    assert nn.LSTM.forward is before
    with torch.inference_mode():
        np.testing.assert_allclose(actual, module(ids).numpy(), atol=2e-5)


class Odd(nn.Module):
    def __init__(self, feed, **options):
        super().__init__()
        self.embedding, self.layer, self.feed = nn.Embedding(20, 8), nn.LSTM(8, 6, batch_first=True, **options), feed

    def forward(self, ids):
        return self.layer(self.feed(self.embedding(ids)))[0]


def packed(hidden):
    return nn.utils.rnn.pack_padded_sequence(hidden, torch.tensor([3, 3]), batch_first=True)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (partial(Odd, lambda hidden: hidden, proj_size=3), "proj_size=3"),
        (partial(Odd, lambda hidden: hidden[0]), "2 dimensions"),
        (partial(Odd, packed), "packed|cannot be traced"),
    ],
)
def test_a_layer_without_an_operator_is_refused(module, said):
    with pytest.raises(InputError, match=said):
        trace(module().eval(), [])
