from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.onnx._internal.exporter import _decomp, _registration

from jisu.exporter.tracing.decomposition import spare_decomposition


class Rule(nn.Module):
    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def forward(self, x):
        return self.rule(x)


@pytest.fixture(scope="module")
def table():
    """What torch.onnx takes apart."""
    registry = _registration.ONNXRegistry.from_torchlib()
    return _decomp.create_onnx_friendly_decomposition_table(set(_decomp.get_onnx_implemented_overloads(registry)))


def program_of(rule):
    program = torch.export.export(Rule(rule), (torch.randn(2, 3),), strict=False)
    spare_decomposition(program)
    return program


def targets(program):
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        (lambda x: x.to(torch.float64).reshape(-1), ["aten._to_copy.default", "aten.reshape.default"]),
        (lambda x: x.to(torch.float32) + 1, ["aten.add.Tensor"]),  # a conversion that converts nothing is none
        (lambda x: x.to(torch.float32), ["aten._to_copy.default"]),  # an output has to stay one
        (lambda x: x.float().half().to("cpu") * 2, ["aten._to_copy.default", "aten.mul.Tensor"]),
    ],
)
def test_a_program_of_translated_operators_is_kept_and_still_right(table, rule, left):
    program = program_of(rule)
    assert program.run_decompositions(table) is program
    assert targets(program) == left
    x = torch.randn(2, 3)
    program.graph_module.recompile()
    torch.testing.assert_close(program.graph_module(x)[0], rule(x))


def write(x):
    y = x * 1.0
    y[:, 0] = 0
    return y


def write_a_copy(x):
    y = x * 1.0
    y[:, 0] = x[:, 1]
    return y


def branch(x):
    return torch.cond(x.sum() > 0, lambda y: y + 1.0, lambda y: y - 1.0, (x,))


@pytest.mark.parametrize(
    "rule",
    [
        write,
        write_a_copy,
        branch,
        lambda x: x.T,  # a view made of others
        lambda x: torch.logit(x.sigmoid()).argsort(),  # in the table
    ],
)
def test_any_other_program_is_decomposed(table, rule):
    program = program_of(rule)
    decomposed = program.run_decompositions(table)
    assert decomposed is not program
    x = torch.rand(2, 3)
    torch.testing.assert_close(decomposed.module()(x), rule(x))
