from __future__ import annotations

import pytest

from jisu.benchmarks.compare.contestants import artifact_contestants
from jisu.benchmarks.compare.figures import memory_figures, workload_figures
from jisu.benchmarks.compare.memory_traffic import state_bytes
from jisu.benchmarks.compare.rounds import Outcome
from jisu.benchmarks.compare.workloads import Workload
from jisu.exporter.contract.artifact import read_artifact

PAIR = Workload(name="pair", prompt_tokens=10, new_tokens=5, batch=2)


def outcome(tiny, trials, **changes):
    contestant = artifact_contestants([tiny.fp32], ["ort-cpu"], threads=1, source=None)[0]
    answers = [
        {"step_seconds": steps, "joules": 4.0, "peak_bytes": 100 + number, "resident_bytes": 90 - number, **changes}
        for number, steps in enumerate(trials)
    ]
    return Outcome(contestant=contestant, trials={"pair": answers})


def test_figures_of_steps_one_can_check_by_hand(tiny):
    trials = [[1.0, 0.1, 0.1, 0.1, 0.1], [2.0, 0.2, 0.2, 0.2, 0.6], [0.5, 0.1, 0.1, 0.1, 0.5]]
    actual = workload_figures(outcome(tiny, trials), PAIR, weights=1e6, bandwidth=1e9)
    assert actual["time_to_first_token_s"]["median"] == 1.0
    assert actual["prefill_tokens_per_s"]["median"] == pytest.approx(20.0)
    assert actual["decode_tokens_per_s"]["median"] == pytest.approx(2 * 4 / 0.8)  # rows of a batch count together
    assert actual["end_to_end_s"]["median"] == pytest.approx(1.4)
    assert actual["inter_token_s"]["p50"]["median"] == pytest.approx(0.1)
    assert actual["inter_token_s"]["p99"]["median"] == pytest.approx(0.5)
    assert actual["inter_token_quantiles_s"][0] == [0.0, pytest.approx(0.1)]
    assert actual["joules_per_token"]["median"] == pytest.approx(4.0 / 10)
    state = state_bytes(read_artifact(tiny.fp32), batch=2, length=12.5)
    assert actual["bytes_per_token"] == pytest.approx((1e6 + state) / 2)
    assert actual["gb_per_s"] == pytest.approx(actual["bytes_per_token"] * 10 / 1e9)
    assert actual["share_of_bandwidth"] == pytest.approx(actual["gb_per_s"])


def test_figures_of_a_classifiers_calls_one_can_check_by_hand(tiny):
    pair = Workload(name="pair", prompt_tokens=10, new_tokens=0, batch=2, calls=4)
    trials = [[0.1, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 1.0], [0.2, 0.1, 0.1, 0.4]]
    actual = workload_figures(outcome(tiny, trials), pair, weights=1e6, bandwidth=1e9)
    assert actual["texts_per_s"]["median"] == pytest.approx(2 * 4 / 0.8)
    assert {name: summary["median"] for name, summary in actual["latency_s"].items()} == {
        "p50": 0.1,
        "p90": 0.4,
        "p99": 0.4,
    }
    assert actual["latency_quantiles_s"][-1] == [1.0, 1.0]
    assert actual["joules_per_text"]["median"] == pytest.approx(4.0 / 8)
    assert "decode_tokens_per_s" not in actual


def test_energy_that_the_machine_does_not_tell_is_none(tiny):
    trials = [[1.0, 0.1, 0.1, 0.1, 0.1]]
    assert (
        workload_figures(outcome(tiny, trials, joules=None), PAIR, weights=None, bandwidth=None)["joules_per_token"]
        is None
    )


def test_memory_is_the_most_of_all_trials(tiny):
    actual = memory_figures(outcome(tiny, [[1.0]] * 3))
    assert (actual["peak_bytes"], actual["resident_bytes"], actual["gpu_bytes"]) == (102, 88, None)
