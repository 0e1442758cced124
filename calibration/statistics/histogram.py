"""A histogram of values that arrive in batches, in fixed memory, whatever their range turns out to be.

Bins have one width, a power of two, and zero is an edge. When a value falls outside, the width doubles and neighbours
are merged, which loses nothing but resolution; the counts do not depend on how the values were cut into batches.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from calibration.errors import ActivationError

HALF = 2048  # bins on each side of zero


class Histogram:
    """Counts of the finite values seen so far.

    Attributes:
        counts: int64 [2 * half]; bin i covers [(i - half) * width, (i - half + 1) * width).
        width: of a bin; 0 until a value other than zero was seen.
        low, high: the extremes.
        zeros: values seen while all were zero.
    """

    def __init__(self, *, half: int = HALF) -> None:
        self.half = half
        self.counts: npt.NDArray[np.int64] = np.zeros(2 * half, dtype=np.int64)
        self.width = 0.0
        self.low, self.high = math.inf, -math.inf
        self.zeros = 0

    @classmethod
    def restore(cls, counts: npt.NDArray[np.int64], *, width: float, low: float, high: float, zeros: int) -> Histogram:
        """A histogram from its stored attributes."""
        histogram = cls(half=len(counts) // 2)
        histogram.counts = counts.astype(np.int64)
        histogram.width, histogram.low, histogram.high, histogram.zeros = width, low, high, zeros
        return histogram

    @property
    def total(self) -> int:
        """Values seen."""
        return int(self.counts.sum()) + self.zeros

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        """The middle of each bin."""
        indices = np.arange(2 * self.half, dtype=np.float64)
        return (indices - self.half + 0.5) * self.width

    def add(self, values: npt.NDArray[np.floating], *, layer: str) -> None:
        """Count values of any shape.

        Raises:
            ActivationError: one of them is NaN or infinite; names the layer.
        """
        flat = np.asarray(values, dtype=np.float64).reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ActivationError(
                f"There are NaN or infinite values in the activations of {layer}",
                received=f"values from {low} to {high}",
                allowed="finite activations",
                fix="Check the checkpoint, and run it in float32.",
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        if max(-low, high) > 0:
            self._cover(max(-low, high))
        if self.width == 0:
            self.zeros += flat.size
            return
        places = np.floor(flat / self.width).astype(np.int64) + self.half
        self.counts += np.bincount(places, minlength=2 * self.half)

    def add_histogram(self, other: Histogram) -> None:
        """Count the values of another histogram with as many bins, which is left as it is."""
        assert other.half == self.half, f"{other.half} bins are not {self.half}"
        copy = Histogram.restore(other.counts, width=other.width, low=other.low, high=other.high, zeros=other.zeros)
        for one, wider in ((self, copy), (copy, self)):
            if wider.width:
                one._widen(wider.width)
        self.counts += copy.counts
        self.low, self.high = min(self.low, copy.low), max(self.high, copy.high)
        self.zeros += copy.zeros

    def _cover(self, largest: float) -> None:
        # frexp: largest = m * 2**e with 0.5 <= m < 1, so 2**e > largest, and 2**e / half bins reach beyond it.
        self._widen(math.ldexp(1.0, max(math.frexp(largest)[1], -900)) / self.half)

    def _widen(self, needed: float) -> None:
        """Make the bins at least so wide, a power of two."""
        if self.width == 0:
            self.width = needed
            self.counts[self.half] += self.zeros
            self.zeros = 0
        while self.width < needed:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros_like(self.counts)
            self.counts[self.half // 2 : self.half // 2 + len(merged)] = merged
            self.width *= 2
