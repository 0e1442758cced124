from __future__ import annotations

from types import SimpleNamespace

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.ort.placement import check_placement, joined


def session(**placed):
    def part(provider, nodes):
        actual = [SimpleNamespace(op_type=op_type, name=f"n{index}") for index, op_type in enumerate(nodes)]
        return SimpleNamespace(ep_name=provider, get_nodes=lambda: actual)

    parts = [part(provider, nodes) for provider, nodes in placed.items()]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)


def test_shapes_on_the_processor_are_free():
    placement = check_placement(
        session(CUDA=["MatMul", "MatMul"], CPU=["Shape", "Gather"]), provider="CUDA", allow_cpu_nodes=False
    )
    assert placement.strays == ()
    assert placement.describe() == ["CUDA: 2 MatMul", "CPU: 1 Gather, 1 Shape"]


def test_everything_else_is_named():
    nodes = ["Attention"] * 7
    with pytest.raises(InputError, match="Attention n0, .*and 2 more"):
        check_placement(session(CPU=nodes), provider="CUDA", allow_cpu_nodes=False)
    assert len(check_placement(session(CPU=nodes), provider="CUDA", allow_cpu_nodes=True).strays) == 7


def test_a_runtime_that_does_not_tell_is_refused():
    with pytest.raises(InputError, match="does not tell"):
        check_placement(SimpleNamespace(), provider="CUDA", allow_cpu_nodes=False)


def test_two_graphs_are_told_as_one():
    sides = [session(CUDA=["MatMul"], CPU=["Attention"]), session(CUDA=["MatMul", "Add"])]
    actual = joined(*(check_placement(side, provider="CUDA", allow_cpu_nodes=True) for side in sides))
    assert actual.counts == {"CUDA": {"MatMul": 2, "Add": 1}, "CPU": {"Attention": 1}}
    assert actual.strays == ("Attention n0",)
