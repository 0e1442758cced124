from __future__ import annotations

import math

import numpy as np
import pytest

from jisu.exporter.gate.intervals import mean_interval, share_interval


def test_interval_of_two_blocks_by_hand():
    # Means 1 and 3, standard error 1, one degree of freedom: 12.706 either way.
    values = np.repeat([1.0, 3.0], 32)
    assert mean_interval(values) == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)


@pytest.mark.parametrize(("blocks", "student"), [(4, 3.182), (8, 2.365), (31, 2.042)])
def test_interval_is_students(blocks, student):
    means = np.arange(blocks, dtype=np.float64)
    half = student * means.std(ddof=1) / math.sqrt(blocks)
    low, high = mean_interval(np.repeat(means, 32))
    assert (high - low) / 2 == pytest.approx(half, rel=2e-3)


def test_less_than_two_blocks_are_taken_as_they_are():
    assert mean_interval(np.arange(63, dtype=np.float64)) == (31.0, 31.0)


def test_nan_reaches_both_ends():
    low, high = mean_interval(np.array([1.0, np.nan] * 64))
    assert math.isnan(low)
    assert math.isnan(high)


def test_interval_of_a_share_is_wilsons():
    # By hand of 80 in 100: (0.8 + 0.019207) / 1.038415 +- ...
    low, high = share_interval(80, 100)
    assert (low, high) == pytest.approx((0.7112, 0.8666), abs=1e-4)
    assert share_interval(0, 100) == pytest.approx((0.0, 0.0370), abs=1e-4)
    assert share_interval(0, 0) == (0.0, 1.0)


def test_interval_of_few_trials_is_the_exact_one():
    # Of one in two: (1 - p)^2 = 0.975; of all of ten: p^10 = 0.025. The third is in every table.
    assert share_interval(1, 2) == pytest.approx((1 - math.sqrt(0.975), math.sqrt(0.975)), abs=1e-9)
    assert share_interval(10, 10) == pytest.approx((0.025**0.1, 1.0), abs=1e-9)
    assert share_interval(8, 10) == pytest.approx((0.4439, 0.9748), abs=1e-4)


def test_the_interval_holds_the_true_mean_in_95_of_100_samples():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, high = mean_interval(generator.normal(size=256))
        hits += low <= 0 <= high
    assert 0.92 <= hits / 400 <= 0.98
