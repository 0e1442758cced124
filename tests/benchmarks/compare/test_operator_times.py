from __future__ import annotations

import pytest

from jisu.benchmarks.compare.operator_times import measure_operators, operators_of


def event(operator, name, microseconds, cat="Node"):
    return {"cat": cat, "name": f"{name}_kernel_time", "dur": microseconds, "args": {"op_name": operator}}


def test_nodes_are_summed_by_operator_without_their_first_run():
    events = [
        *(event("MatMul", "a", micros) for micros in (900, 100, 300)),
        *(event("MatMul", "b", micros) for micros in (900, 50, 50)),
        *(event("Add", "c", micros) for micros in (900, 40, 60)),
        event("MatMul", "a", 5000, cat="Session"),
        {"cat": "Node", "name": "a_fence_before", "dur": 7, "args": {"op_name": "MatMul"}},
    ]
    actual = operators_of(events)
    assert [(item["operator"], item["nodes"]) for item in actual] == [("MatMul", 2), ("Add", 1)]
    assert [item["s"] for item in actual] == pytest.approx([250e-6, 50e-6])
    assert [item["share"] for item in actual] == pytest.approx([250 / 300, 50 / 300])


def test_an_artifact_is_profiled_in_a_process_of_its_own(tiny):
    actual = measure_operators(tiny.int8, threads=1, time_limit=120)
    nodes = {item["operator"]: item["nodes"] for item in actual}
    assert nodes["GroupQueryAttention"] == 2  # one a layer


def test_a_profile_that_fails_says_why(tmp_path):
    assert "is not an artifact" in measure_operators(tmp_path, threads=1, time_limit=120)
