from __future__ import annotations

import pytest

from jisu.exporter.jobs.time_left import TimeLeft, spelled

EXPECTED = {"load": 4.0, "trace": 6.0, "verify": 100.0, "publish": 1.0}


def test_before_anything_is_known_the_expectation_counts() -> None:
    left = TimeLeft(EXPECTED)
    assert left.of_stage("verify", 10, 0) == pytest.approx(90)
    assert left.of_job("verify", 10, 0) == pytest.approx(91)
    assert left.of_job("load", 1, 0) == pytest.approx(3 + 107)


def test_a_stage_that_tells_how_far_it_is_is_believed() -> None:
    left = TimeLeft(EXPECTED)
    assert left.of_stage("verify", 30, 0.5) == pytest.approx(30)
    assert left.of_stage("verify", 300, 0.75) == pytest.approx(100)
    # Hardly begun, its pace says little: half of each.
    assert left.of_stage("verify", 10, 0.05) == pytest.approx((190 + 90) / 2)


def test_finished_stages_say_how_fast_the_machine_is() -> None:
    left = TimeLeft(EXPECTED)
    left.finish("load", 8)
    left.finish("trace", 12)
    assert left.of_stage("verify", 0, 0) == pytest.approx(200)
    assert left.of_job("verify", 0, 0) == pytest.approx(202)


@pytest.mark.parametrize(("seconds", "most"), [(10_000.0, 400.0), (0.001, 25.0)])
def test_one_strange_stage_does_not_move_an_expectation_without_bounds(seconds: float, most: float) -> None:
    left = TimeLeft(EXPECTED)
    left.finish("load", seconds)
    assert left.of_stage("verify", 0, 0) == pytest.approx(most)


def test_what_is_known_of_nothing_is_not_said() -> None:
    left = TimeLeft({})
    assert left.of_stage("verify", 10, 0) is None
    assert left.of_stage("verify", 10, 0.5) == pytest.approx(10)
    assert left.of_job("verify", 10, 0.5) is None
    assert TimeLeft(EXPECTED).of_stage("trace", 7, 0) is None  # later than expected, and it does not tell


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (7.4, "7 s"), (42, "40 s"), (88, "90 s"), (140, "2 min"), (3_000, "50 min"), (9_000, "2.5 h")],
)
def test_times_are_as_exact_as_an_estimate_is(seconds: float, text: str) -> None:
    assert spelled(seconds) == text
