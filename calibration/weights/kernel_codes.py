"""Codes of 5, 6 and 7 bits as codes of 8 bits, which is what kernels multiply with.

ONNX Runtime's kernels take 2, 4 and 8 bits. A code of 6 bits times 4 is one of 8 bits, with a quarter of the scale: the
same weight to the last bit, and a file can still hold 6 bits of it (`exporter.passes.pack_narrow_codes`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jisu.calibration.weights.formats import STORED_BITS, BlockQuantized

KERNEL_BITS = 8


def kernel_step(bits: int) -> int:
    """How many steps of a kernel's codes one step of codes with so many bits is."""
    return 1 << (KERNEL_BITS - bits) if bits in STORED_BITS else 1


def to_kernel_codes(quantized: BlockQuantized) -> BlockQuantized:
    """The same weights with codes of 8 bits; codes of as many bits as a kernel takes stay as they are.

    Codes, scales and zero points are computed anew; everything else is shared.
    """
    own = quantized.format
    if own.bits not in STORED_BITS:
        return quantized
    step = kernel_step(own.bits)
    return replace(
        quantized,
        codes=quantized.codes * np.uint8(step),
        scales=quantized.scales / np.float32(step),
        zero_points=quantized.zero_points * np.uint8(step),
        format=replace(own, bits=KERNEL_BITS),
    )
