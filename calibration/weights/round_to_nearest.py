"""Rounding each weight to its nearest code: needs no statistics, and is what the other algorithms are measured against.

Formula: code = clip(round(w / s) + z, 0, 2**bits - 1) with s and z per block, either the tightest that clip nothing or
those of least squared error. With the mean square of each input feature (the diagonal of X^T X) the error is weighted
by it, which is the output's error if features were uncorrelated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jisu.calibration.weights.block_scales import encode, full_range, least_error
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats, to_blocks


def round_to_nearest(
    weight: Floats,
    block_format: BlockFormat,
    *,
    layer: str,
    search: bool = True,
    importance: npt.NDArray[np.floating] | None = None,
) -> BlockQuantized:
    """Quantize a weight by rounding.

    Args:
        weight: float32 [N, K].
        layer: its name, for errors.
        search: look for the scales of least squared error instead of those that clip nothing.
        importance: [K], non-negative weight of each input feature's error, such as its mean square; only with search.

    Raises:
        FormatError: the block size does not divide K.
    """
    blocks = to_blocks(np.ascontiguousarray(weight, dtype=np.float32), block_format, layer=layer)
    if search:
        if importance is not None:
            importance = _importance_blocks(importance, block_format, blocks.shape[1])
        scale, zero = least_error(blocks, block_format, importance=importance)
    else:
        scale, zero = full_range(blocks, block_format)
    codes = encode(blocks, scale, zero, block_format).reshape(len(weight), -1)[:, : weight.shape[1]]
    return BlockQuantized(
        codes=codes.astype(np.uint8), scales=scale, zero_points=zero.astype(np.uint8), format=block_format
    )


def _importance_blocks(
    importance: npt.NDArray[np.floating], block_format: BlockFormat, blocks: int
) -> npt.NDArray[np.floating]:
    width = block_format.width(len(importance))
    padded = np.zeros(blocks * width)
    padded[: len(importance)] = importance
    # Without scale, so that float32 sums neither overflow nor vanish; a block nothing ever enters weighs evenly.
    cut = padded.reshape(blocks, width)
    largest = cut.max(axis=1, keepdims=True)
    return np.where(largest > 0, cut / np.where(largest > 0, largest, 1), 1)
