from __future__ import annotations

from jisu.benchmarks.compare.pareto import pareto_front


def test_front_has_who_is_fastest_closest_or_between_and_not_who_loses_in_both():
    points = [(0, 50.0, 0.0), (1, 120.0, 0.005), (2, 100.0, 0.4), (3, 150.0, 0.08), (4, 20.0, 0.0)]
    assert pareto_front(points) == [0, 1, 3]


def test_equal_points_do_not_beat_each_other():
    assert sorted(pareto_front([(0, 1.0, 1.0), (1, 1.0, 1.0)])) == [0, 1]
