"""Chooses the range of an activation that its 8-bit codes cover, from a histogram or from the extremes alone.

Clipping rare large values makes the steps finer for all others; the observers differ in what they call rare. Every
range holds zero and lies within the observed extremes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration.errors import ActivationError, CalibrationError
from calibration.statistics.histogram import Histogram

ObserverName = Literal["min-max", "percentile", "entropy", "mse"]
Range = tuple[float, float]

PERCENTILE = 99.99
LEVELS = 255  # steps of an 8-bit range
ENTROPY_LEVELS = 128  # magnitudes of a signed 8-bit code
CANDIDATES = 100


def min_max(histogram: Histogram) -> Range:
    """The extremes: nothing is clipped."""
    return _with_zero(histogram.low, histogram.high)


def percentile(histogram: Histogram, *, percent: float = PERCENTILE) -> Range:
    """The range that leaves (100 - percent) / 2 percent of the values outside on each side, to a bin's width.

    Raises:
        CalibrationError: percent is not above 0 and up to 100.
    """
    if not 0 < percent <= 100:
        raise CalibrationError(
            "The percentile is out of range", received=percent, allowed="above 0 and up to 100", fix="Use 99.99."
        )
    if histogram.width == 0:
        return min_max(histogram)
    outside = histogram.total * (100 - percent) / 200
    below = np.cumsum(histogram.counts)
    first = int(np.argmax(below > outside))
    above = np.cumsum(histogram.counts[::-1])
    last = len(above) - 1 - int(np.argmax(above > outside))
    low = (first - histogram.half) * histogram.width
    high = (last - histogram.half + 1) * histogram.width
    return _with_zero(max(low, histogram.low), min(high, histogram.high))


def mse(histogram: Histogram, *, symmetric: bool = False) -> Range:
    """The range with the least mean squared error of rounding and clipping, among shares of the extremes.

    The error of a value is taken at its bin's middle; within the range it counts as step**2 / 12, the mean of rounding.
    The two ends are searched in turn, since an outlier on one side is no reason to clip the other.

    Args:
        symmetric: the codes will be symmetric, so that both ends share the larger one's step.
    """
    low, high = min_max(histogram)
    if histogram.width == 0:
        return low, high
    used = np.flatnonzero(histogram.counts)
    values, counts = histogram.centers[used], histogram.counts[used]

    def error(start: float, end: float) -> float:
        step = 2 * max(-start, end) / (LEVELS - 1) if symmetric else (end - start) / LEVELS
        outside = np.maximum(start - values, 0) + np.maximum(values - end, 0)
        squared = np.where(outside > 0, outside**2, step**2 / 12)
        return float((squared * counts).sum())

    shares = [i / CANDIDATES for i in range(CANDIDATES, 0, -1)]
    if symmetric:
        widest = max(-low, high)
        threshold = min((widest * share for share in shares), key=lambda end: error(max(low, -end), min(high, end)))
        return max(low, -threshold), min(high, threshold)
    start, end = low, high
    for _ in range(2):
        end = min((high * share for share in shares), key=lambda tried: error(start, tried))
        start = min((low * share for share in shares), key=lambda tried: error(tried, end))
    return start, end


def entropy(histogram: Histogram) -> Range:
    """The symmetric threshold whose 128 magnitudes keep most of the distribution of |x|: least KL divergence.

    For each threshold the reference is the distribution up to it, with what lies beyond added to the last bin; the
    candidate is the same without that addition, merged into 128 levels and spread evenly over each level's non-empty
    bins. Source: Migacz, "8-bit Inference with TensorRT" (GTC 2017), the calibration algorithm's pseudocode.
    """
    low, high = min_max(histogram)
    if histogram.width == 0:
        return low, high
    magnitudes = histogram.counts[histogram.half :] + histogram.counts[: histogram.half][::-1]
    used = int(np.flatnonzero(magnitudes)[-1]) + 1
    if used <= ENTROPY_LEVELS:
        return low, high
    stops = np.unique(np.linspace(ENTROPY_LEVELS, used, 4 * CANDIDATES).astype(int))
    best = min(reversed(stops.tolist()), key=lambda stop: threshold_divergence(magnitudes, stop))
    threshold = best * histogram.width
    return max(low, -threshold), min(high, threshold)


def threshold_divergence(magnitudes: npt.NDArray[np.int64], stop: int, levels: int = ENTROPY_LEVELS) -> float:
    """KL divergence in nats of the distribution cut at bin ``stop`` and its quantized version; see `entropy`."""
    inside = magnitudes[:stop].astype(np.float64)
    reference = inside.copy()
    reference[-1] += magnitudes[stop:].sum()
    level = np.arange(stop) * levels // stop
    occupied = inside > 0
    sums = np.bincount(level, weights=inside, minlength=levels)
    sizes = np.bincount(level, weights=occupied, minlength=levels)
    candidate = np.where(occupied, sums[level] / np.maximum(sizes[level], 1), 0)
    p = reference / reference.sum()
    q = candidate / max(candidate.sum(), 1)
    # A value that only the reference has, clipped into an empty last bin, costs a fixed lot instead of infinity.
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / np.maximum(q[some], 1e-9))))


# What `choose_range` calls; the ranges are for asymmetric codes where that makes a difference.
OBSERVERS: dict[ObserverName, Callable[[Histogram], Range]] = {
    "min-max": min_max,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def choose_range(histogram: Histogram, observer: ObserverName, *, layer: str, symmetric: bool = False) -> Range:
    """The range that the named observer chooses.

    Args:
        histogram: of the layer's input.
        observer: a name in `OBSERVERS`.
        layer: its name, for errors.
        symmetric: the codes will be symmetric.

    Raises:
        CalibrationError: no such observer.
        ActivationError: nothing was observed; names the layer.
    """
    if observer not in OBSERVERS:
        raise CalibrationError(
            "There is no such observer", received=observer, allowed=", ".join(OBSERVERS), fix="Use percentile."
        )
    if not histogram.total:
        raise ActivationError(
            f"Nothing was observed of the activations of {layer}",
            received="no value",
            allowed="at least one batch",
            fix="Keep that layer, or calibrate with more text.",
        )
    if observer == "mse":
        return mse(histogram, symmetric=symmetric)
    return OBSERVERS[observer](histogram)


def _with_zero(low: float, high: float) -> Range:
    return min(low, 0.0), max(high, 0.0)
