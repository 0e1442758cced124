"""Complex numbers are pairs of real ones while a module is traced."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.tracing.trace import trace


class Rotating(nn.Module):
    """Embeddings rotated by an angle for each position, as products of complex numbers."""

    def __init__(self, rule=lambda turned: turned):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 8)
        self.rule = rule

    def forward(self, input_ids):
        hidden = self.embedding(input_ids)
        angles = torch.arange(input_ids.shape[1])[None, :, None] * torch.linspace(0.1, 1.0, 4)
        turns = torch.polar(torch.full_like(angles, 1.0), angles) * 0.5
        pairs = torch.view_as_complex(hidden.reshape(*hidden.shape[:-1], -1, 2))
        turned = self.rule(pairs[:, :, None] * turns.unsqueeze(2).to(pairs.device) + pairs.unsqueeze(2))
        return torch.view_as_real(turned).flatten(2)


def test_a_rotation_is_traced_without_complex_tensors() -> None:
    import onnxruntime

    module = Rotating().eval()
    graph = trace(module, [])
    assert "ComplexMul" not in {node.op_type for node in graph.graph}
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    ids = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
    actual = session.run(None, {"input_ids": ids.numpy()})[0]
    # Sums of another order than torch's complex product: a few units of 6e-8.
    np.testing.assert_allclose(actual, module(ids).detach().numpy(), atol=1e-6)


class Tabled(nn.Module):
    """The same with a complex table that was made beforehand, a number, and parts put together."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 8)
        angles = torch.arange(20)[:, None] * torch.linspace(0.1, 1.0, 4)
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def forward(self, input_ids):
        parts = self.embedding(input_ids).unflatten(-1, (-1, 2))
        turns = self.turns[: input_ids.shape[1]]
        left, right = torch.view_as_complex(parts) * turns, turns * torch.complex(parts[..., 0], parts[..., 1])
        return torch.view_as_real((left + right * 1j - 0.5) / 2.0).flatten(2)


def test_tables_and_numbers_of_the_model_take_part() -> None:
    import onnxruntime

    module = Tabled().eval()
    session = onnxruntime.InferenceSession(ir.to_proto(trace(module, [], max_positions=20)).SerializeToString())
    ids = torch.tensor([[1, 2, 3, 4, 5, 6], [5, 4, 3, 2, 1, 0]])
    actual = session.run(None, {"input_ids": ids.numpy()})[0]
    np.testing.assert_allclose(actual, module(ids).detach().numpy(), atol=1e-6)


def test_what_has_no_form_in_a_graph_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="complex numbers in a way that ONNX cannot express. Received: angle"):
        trace(Rotating(torch.angle).eval(), [])


def test_complex_numbers_are_torchs_own_again_after_the_trace() -> None:
    trace(Rotating().eval(), [])
    assert torch.is_complex(torch.polar(torch.ones(1), torch.ones(1)))
