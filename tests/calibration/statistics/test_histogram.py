from __future__ import annotations

import numpy as np
import pytest

from calibration.errors import ActivationError
from calibration.statistics.histogram import Histogram


def filled(*batches: list[float], half: int = 4) -> Histogram:
    histogram = Histogram(half=half)
    for batch in batches:
        histogram.add(np.array(batch, dtype=np.float32), layer="w")
    return histogram


def test_counts_by_hand() -> None:
    # 3 < 4 = 4 bins of width 1.
    histogram = filled([3.0, 0.0, 0.5, -0.5, -3.0])

    assert histogram.width == 1.0
    assert histogram.counts.tolist() == [0, 1, 0, 1, 2, 0, 0, 1]
    assert histogram.centers.tolist() == [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]


def test_a_larger_value_merges_neighbours() -> None:
    histogram = filled([3.0, 0.0, 0.5, -0.5, -3.0], [4.0])

    assert histogram.width == 2.0
    assert histogram.counts.tolist() == [0, 0, 1, 1, 2, 1, 1, 0]
    assert (histogram.low, histogram.high, histogram.total) == (-3.0, 4.0, 6)


def test_batches_do_not_matter() -> None:
    values = (np.random.default_rng(0).standard_normal(1000) ** 3).astype(np.float32)
    once, often = Histogram(), Histogram()
    once.add(values, layer="w")
    for part in np.array_split(np.sort(values), 13):
        often.add(part, layer="w")

    assert once.width == often.width
    assert (once.counts == often.counts).all()
    assert once.total == 1000


def test_zeros_before_any_other_value_are_counted() -> None:
    assert filled([0.0, 0.0]).total == 2
    assert filled([0.0, 0.0], [1.0]).counts[4] == 2


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30])
def test_any_magnitude_finds_a_bin(size: float) -> None:
    histogram = Histogram()
    histogram.add(np.array([size, -size]), layer="w")
    assert histogram.total == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_name_the_layer(bad: float) -> None:
    with pytest.raises(ActivationError, match="layers.1.q_proj"):
        Histogram().add(np.array([1.0, bad]), layer="layers.1.q_proj")


def test_restoring_gives_the_same_histogram() -> None:
    one = filled([3.0, 0.5])
    other = Histogram.restore(one.counts.copy(), width=one.width, low=one.low, high=one.high, zeros=one.zeros)
    for histogram in (one, other):
        histogram.add(np.array([9.0]), layer="w")

    assert other.counts.tolist() == one.counts.tolist()
    assert (other.width, other.low, other.high) == (one.width, one.low, one.high)


@pytest.mark.parametrize("cut", [0, 1, 7, 500, 1000])
def test_histograms_of_two_parts_add_up_to_that_of_the_whole(cut: int) -> None:
    values = (np.random.default_rng(0).standard_normal(1000) ** 3).astype(np.float32)
    values[:5] = 0
    whole, one, other = Histogram(), Histogram(), Histogram()
    whole.add(values, layer="w")
    one.add(values[:cut], layer="w")
    other.add(values[cut:], layer="w")
    kept = other.counts.copy()
    one.add_histogram(other)
    assert np.array_equal(one.counts, whole.counts)
    assert (one.width, one.low, one.high, one.total) == (whole.width, whole.low, whole.high, 1000)
    assert np.array_equal(other.counts, kept)
