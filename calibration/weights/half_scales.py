"""Scales of blocks as numbers of two bytes: their own rounding disappears in that of the codes they multiply.

A scale that is off by a part in 4096 moves the largest 8-bit code by a thirtieth of a step, a 4-bit one by less.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jisu.calibration.weights.formats import BlockQuantized, Floats
from jisu.calibration.weights.kernel_codes import kernel_step

# Half a step of float16 among its normal numbers is 2**-12 of their size; smaller ones come up to this.
LARGEST_ERROR = 2.0**-10


def round_scales(quantized: BlockQuantized) -> BlockQuantized:
    """The same codes with scales that float16 holds exactly; unchanged when one of them cannot be rounded so closely.

    That is one of 65520 or more, or one of less than 3.1e-5, where float16 has few digits left; of codes that kernels
    widen (`calibration.weights.kernel_codes`) it is the scale that they then have.
    """
    widening = np.float32(kernel_step(quantized.format.bits))
    with np.errstate(over="ignore", invalid="ignore"):
        rounded: Floats = (quantized.scales / widening).astype(np.float16).astype(np.float32) * widening
        # Written so that infinities and NaN leave the scales as they are.
        close = np.abs(rounded - quantized.scales) <= LARGEST_ERROR * np.abs(quantized.scales)
    return replace(quantized, scales=rounded) if close.all() else quantized
