"""Fixed 8-bit scales for activations and per-channel 8-bit weights: the two halves of static W8A8.

Activations: one scale and zero point per tensor, from the range an observer found. Symmetric int8 is what TensorRT
takes; x86 CPUs want uint8, which is the same grid shifted by 128. Weights: symmetric int8 with one scale per output
row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import ActivationError
from jisu.calibration.weights.formats import Floats


@dataclass(frozen=True, kw_only=True)
class ActivationScale:
    """x is about (code - zero_point) * scale, with codes -128..127 (int8) or 0..255 (uint8)."""

    scale: float
    zero_point: int
    dtype: Literal["int8", "uint8"]

    def as_unsigned(self) -> ActivationScale:
        """The same grid with uint8 codes."""
        shift = 128 if self.dtype == "int8" else 0
        return ActivationScale(scale=self.scale, zero_point=self.zero_point + shift, dtype="uint8")

    def round_trip(self, values: Floats) -> Floats:
        """Quantize and dequantize, float32 of any shape."""
        low, high = (-128, 127) if self.dtype == "int8" else (0, 255)
        codes = np.clip(np.rint(values / np.float32(self.scale)) + self.zero_point, low, high)
        return np.asarray((codes - self.zero_point) * np.float32(self.scale), dtype=np.float32)


def activation_scale(low: float, high: float, *, layer: str, symmetric: bool = True) -> ActivationScale:
    """The scale for a range.

    Symmetric: int8, s = max(|low|, |high|) / 127, zero point 0. Asymmetric: uint8, the range widened to hold zero,
    s = (high - low) / 255, z = round(-low / s). A range of only zero has scale 1.

    Raises:
        ActivationError: a range that is not finite or is upside down; names the layer.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ActivationError(
            f"No scale can be found for the activations of {layer}",
            received=f"a range from {low} to {high}",
            allowed="two finite numbers, the smaller first",
            fix="Collect the statistics again from a float32 model.",
        )
    if symmetric:
        scale = max(abs(low), abs(high)) / 127
        return ActivationScale(scale=_as_stored(scale), zero_point=0, dtype="int8")
    low, high = min(low, 0.0), max(high, 0.0)
    scale = _as_stored((high - low) / 255)
    return ActivationScale(scale=scale, zero_point=round(-low / scale), dtype="uint8")


@dataclass(frozen=True, kw_only=True)
class ChannelQuantized:
    """A weight with one scale per output row: codes int8 [N, K], scales float32 [N]."""

    codes: npt.NDArray[np.int8]
    scales: Floats

    def dequantize(self) -> Floats:
        """code * scale, float32 [N, K]."""
        return np.asarray(self.codes.astype(np.float32) * self.scales[:, None], dtype=np.float32)


def quantize_rows(weight: Floats) -> ChannelQuantized:
    """Symmetric int8 per output row: s = max|w| / 127, code = round(w / s). A row of zeros has scale 1.

    Not every CPU multiplies such codes with 8-bit inputs exactly: see `calibration.w8a8.pair_sums`.

    Args:
        weight: float32 [N, K].
    """
    scales = np.abs(weight).max(axis=1) / np.float32(127)
    scales = np.where(scales > np.finfo(np.float32).tiny, scales, np.float32(1)).astype(np.float32)
    codes = np.clip(np.rint(weight / scales[:, None]), -127, 127).astype(np.int8)
    return ChannelQuantized(codes=codes, scales=scales)


def _as_stored(scale: float) -> float:
    """The float32 value of a scale; 1 where the range was too small to divide by."""
    stored = float(np.float32(scale))
    return stored if stored > float(np.finfo(np.float32).tiny) else 1.0
