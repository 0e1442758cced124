"""Each expert multiplies its own tokens: the same numbers as one after the other, from standard operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from jisu.exporter.tracing.experts import routed_experts
from jisu.exporter.tracing.trace import trace
from tests.exporter.tracing.calls import on_graph, tokens

EXPERTS, HIDDEN, INNER, VOCABULARY = 5, 6, 4, 10


class Experts(nn.Module):
    """The attributes that transformers' experts have."""

    def __init__(self, *, has_gate, has_bias, is_transposed):
        super().__init__()
        torch.manual_seed(1)
        self.has_gate, self.has_bias, self.is_transposed, self.has_post_expert_norm = (
            has_gate,
            has_bias,
            is_transposed,
            False,
        )
        width = 2 * INNER if has_gate else INNER
        up, down = (EXPERTS, width, HIDDEN), (EXPERTS, HIDDEN, INNER)
        if is_transposed:
            up, down = (EXPERTS, HIDDEN, width), (EXPERTS, INNER, HIDDEN)
        name = "gate_up_proj" if has_gate else "up_proj"
        setattr(self, name, nn.Parameter(torch.randn(up)))
        self.down_proj = nn.Parameter(torch.randn(down))
        setattr(self, f"{name}_bias", nn.Parameter(torch.randn(EXPERTS, width)))
        self.down_proj_bias = nn.Parameter(torch.randn(EXPERTS, HIDDEN))
        self.act_fn = nn.functional.silu

    def _apply_gate(self, hidden):
        gate, up = hidden.chunk(2, -1)
        return self.act_fn(gate) * up

    def plain(self, hidden, index, weights):
        """Token after token, expert after expert."""
        name = "gate_up_proj" if self.has_gate else "up_proj"
        actual = torch.zeros_like(hidden)
        for token in range(len(hidden)):
            for expert, weight in zip(index[token].tolist(), weights[token], strict=True):
                up, down = getattr(self, name)[expert], self.down_proj[expert]
                inner = hidden[token] @ (up if self.is_transposed else up.T)
                if self.has_bias:
                    inner = inner + getattr(self, f"{name}_bias")[expert]
                inner = self._apply_gate(inner) if self.has_gate else self.act_fn(inner)
                outer = inner @ (down if self.is_transposed else down.T)
                actual[token] += weight * (outer + self.down_proj_bias[expert] if self.has_bias else outer)
        return actual


class Mixture(nn.Module):
    """Chooses two of the experts for each token."""

    def __init__(self, experts, *, plain=False):
        super().__init__()
        torch.manual_seed(2)
        self.embedding, self.router = nn.Embedding(VOCABULARY, HIDDEN), nn.Linear(HIDDEN, EXPERTS)
        self.experts, self.plain = experts, plain

    def state_spec(self):
        return [("0.sum", "recurrent", ("B", HIDDEN), "float32")]

    def forward(self, input_ids, past_length, state):
        positions = past_length[:, None] + torch.arange(input_ids.shape[1])
        hidden = self.embedding(input_ids) + positions[:, :, None]
        flat = hidden.reshape(-1, HIDDEN)
        weights, index = self.router(flat).softmax(-1).topk(2)
        arguments = (flat, index, weights)
        mixed = self.experts.plain(*arguments) if self.plain else routed_experts(self.experts, *arguments)
        return hidden + mixed.reshape(hidden.shape), [state[0] + hidden.sum(1)]


FORMS = [
    {"has_gate": True, "has_bias": False, "is_transposed": False},
    {"has_gate": True, "has_bias": True, "is_transposed": True},
    {"has_gate": False, "has_bias": True, "is_transposed": False},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_tokens_sorted_by_expert_give_what_each_token_alone_gives(form, count):
    experts = Experts(**form)
    torch.manual_seed(3)
    hidden, index = torch.randn(count, HIDDEN), torch.randint(0, EXPERTS, (count, 2))
    weights = torch.rand(count, 2)
    with torch.inference_mode():
        actual, expected = routed_experts(experts, hidden, index, weights), experts.plain(hidden, index, weights)
    np.testing.assert_allclose(actual.numpy(), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_graph_has_one_product_for_each_expert_and_the_same_numbers(form):
    experts = Experts(**form)
    module = Mixture(experts).eval()
    graph = trace(module, module.state_spec())
    assert {node.domain for node in graph.graph} == {""}
    products = [node for node in graph.graph if node.op_type == "MatMul"]
    assert len(products) >= 2 * EXPERTS
    stacked = [name for name, value in graph.graph.initializers.items() if len(value.shape) == 3]
    assert stacked == []  # no second copy of the weights
    for batch, length in ((1, 1), (2, 7)):
        ids, state = tokens(batch, length, vocab=VOCABULARY), [torch.zeros(batch, HIDDEN)]
        with torch.inference_mode():
            expected, _ = Mixture(experts, plain=True).eval()(ids, torch.zeros(batch, dtype=torch.int64), state)
        actual, _ = on_graph(graph, ids, [0] * batch, state)
        np.testing.assert_allclose(actual, expected.numpy(), atol=1e-4)


def test_each_experts_weights_are_views_of_the_modules():
    module = Mixture(Experts(**FORMS[0])).eval()
    graph = trace(module, module.state_spec())
    held: dict[str, ir.Value] = dict(graph.graph.initializers)
    for number in range(EXPERTS):
        own = held[f"experts.{number}.down_proj.weight"].const_value.numpy()
        assert np.shares_memory(own, module.experts.down_proj.detach().numpy())
        np.testing.assert_array_equal(own, module.experts.down_proj[number].detach().numpy())
