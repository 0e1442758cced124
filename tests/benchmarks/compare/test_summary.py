from __future__ import annotations

import pytest

from jisu.benchmarks.compare.summary import percentile, summarize


def test_five_values_have_their_range_as_interval_and_say_its_confidence():
    actual = summarize([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (actual.median, actual.low, actual.high, actual.least, actual.most) == (3.0, 1.0, 5.0, 1.0, 5.0)
    assert actual.confidence == pytest.approx(1 - 2 / 32)  # both ends on one side of the median: 2 of 2^5 ways


def test_nine_values_leave_the_outermost_out():
    actual = summarize([float(value) for value in range(1, 10)])
    # P(X < 2) = (1 + 9) / 512, P(X < 3) = 46 / 512: the second from each end is the last with 95 %.
    assert (actual.low, actual.high) == (2.0, 8.0)
    assert actual.confidence == pytest.approx(1 - 20 / 512)


def test_one_value_has_no_confidence():
    actual = summarize([7.0])
    assert (actual.low, actual.median, actual.high, actual.confidence, actual.trials) == (7.0, 7.0, 7.0, 0.0, 1)


def test_percentile_is_a_measured_value():
    values = [float(value) for value in range(1, 11)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.9, 0.91, 1.0)] == [1.0, 5.0, 9.0, 10.0, 10.0]
