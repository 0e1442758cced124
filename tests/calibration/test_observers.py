from __future__ import annotations

import numpy as np
import pytest

from calibration.errors import ActivationError, CalibrationError
from calibration.observers import OBSERVERS, choose_range, min_max, mse, percentile, threshold_divergence
from calibration.statistics.histogram import Histogram
from calibration.w8a8.static_activations import activation_scale


def observed(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values, layer="w")
    return histogram


def normal_with_outlier() -> np.ndarray:
    return np.append(np.random.default_rng(0).standard_normal(2_000_000), 60.0)


def test_min_max_covers_everything_and_zero() -> None:
    assert min_max(observed(np.array([2.0, 5.0]))) == (0.0, 5.0)
    assert min_max(observed(np.array([-2.0, 5.0]))) == (-2.0, 5.0)


def test_a_percentile_by_hand() -> None:
    # 0..99 in bins of 128 / 2048 = 1/16: 5 values lie below the bin of 5, and 5 above that of 94.
    low, high = percentile(observed(np.arange(100.0)), percent=90)
    assert (low, high) == (0.0, 94.0625)


def test_percentile_hundred_is_min_max() -> None:
    histogram = observed(normal_with_outlier())
    assert percentile(histogram, percent=100) == min_max(histogram)


@pytest.mark.parametrize("observer", ["percentile", "mse", "entropy"])
def test_one_outlier_is_clipped(observer: str) -> None:
    _, high = OBSERVERS[observer](observed(normal_with_outlier()))  # type: ignore[index]
    assert 2.5 < high < 20


@pytest.mark.parametrize("observer", list(OBSERVERS))
def test_an_even_distribution_is_hardly_clipped(observer: str) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    low, high = OBSERVERS[observer](observed(values))  # type: ignore[index]
    assert low < -0.95
    assert high > 0.95


def test_mse_is_no_worse_than_its_rivals_on_the_values_themselves() -> None:
    values = normal_with_outlier().astype(np.float32)
    histogram = observed(values)

    def error(found: tuple[float, float]) -> float:
        scale = activation_scale(*found, layer="w", symmetric=False)
        return float(np.square(scale.round_trip(values) - values).mean())

    assert error(mse(histogram)) < 0.7 * error(min_max(histogram))


def test_divergence_by_hand() -> None:
    # Four bins into two levels: [3, 1, 2, 2] becomes [2, 2, 2, 2].
    found = threshold_divergence(np.array([3, 1, 2, 2]), 4, levels=2)
    p, q = np.array([3, 1, 2, 2]) / 8, np.full(4, 0.25)
    assert found == pytest.approx(float((p * np.log(p / q)).sum()))


def test_divergence_counts_what_is_clipped() -> None:
    # Cut after two bins, the five values beyond land in the last one of the reference only.
    found = threshold_divergence(np.array([4, 4, 5]), 2, levels=2)
    p = np.array([4, 9]) / 13
    assert found == pytest.approx(float((p * np.log(p / 0.5)).sum()))


def test_empty_bins_stay_empty() -> None:
    assert threshold_divergence(np.array([2, 0, 2, 0]), 4, levels=2) == pytest.approx(0.0)


@pytest.mark.parametrize("observer", list(OBSERVERS))
def test_only_zeros_give_an_empty_range(observer: str) -> None:
    assert OBSERVERS[observer](observed(np.zeros(5))) == (0.0, 0.0)  # type: ignore[index]


def test_nothing_observed_names_the_layer() -> None:
    with pytest.raises(ActivationError, match="layers.9.down"):
        choose_range(Histogram(), "mse", layer="layers.9.down")


def test_an_unknown_observer_is_told_the_known_ones() -> None:
    with pytest.raises(CalibrationError, match="min-max, percentile, entropy, mse"):
        choose_range(observed(np.ones(1)), "median", layer="w")  # type: ignore[arg-type]


def test_a_percentile_out_of_range_is_refused() -> None:
    with pytest.raises(CalibrationError):
        percentile(observed(np.ones(1)), percent=0)


def test_symmetric_codes_get_a_threshold_for_both_ends() -> None:
    low, high = choose_range(observed(normal_with_outlier()), "mse", layer="w", symmetric=True)
    assert low < -4  # nothing to gain below: the other end sets the step
    assert 4 < high < 30
