"""Rounding each weight to its nearest code: needs no statistics, and is what the other algorithms are measured against.

Formula: code = clip(round(w / s) + z, 0, 2**bits - 1) with s and z per block, either the tightest that clip nothing or
those of least squared error. With the mean square of each input feature (the diagonal of X^T X) the error is weighted
by it, which is the output's error if features were uncorrelated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from jisu.calibration.weights.block_columns import BlockColumns
from jisu.calibration.weights.block_scales import REFITS, STEPS, repeat_importance, rows_of_piece
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats, to_blocks
from jisu.calibration.weights.row_pieces import for_row_pieces


def round_to_nearest(
    weight: Floats,
    block_format: BlockFormat,
    *,
    layer: str,
    search: bool = True,
    importance: npt.NDArray[np.floating] | None = None,
    channel_scales: Floats | None = None,
) -> BlockQuantized:
    """Quantize a weight by rounding.

    Args:
        weight: float32 [N, K].
        layer: its name, for errors.
        search: look for the scales of least squared error instead of those that clip nothing.
        importance: [K], non-negative weight of each input feature's error, such as its mean square; only with search.
        channel_scales: [K], what each column is multiplied with before; the result has them.

    Raises:
        FormatError: the block size does not divide K.
    """
    rows, features = weight.shape
    width, count = block_format.width(features), block_format.count_blocks(features, layer=layer)
    weights = None
    if search and importance is not None:
        weights = _importance_blocks(importance, block_format, count).astype(np.float32).T
    codes = np.empty((rows, count * width), np.uint8)
    scales, zeros = np.empty((rows, count), np.float32), np.empty((rows, count), np.uint8)

    def worker() -> Callable[[slice], None]:
        columns = BlockColumns(block_format)

        def round_rows(place: slice) -> None:
            part = np.ascontiguousarray(weight[place], dtype=np.float32)
            if channel_scales is not None:
                part = part * channel_scales
            blocks = to_blocks(part, block_format, layer=layer).reshape(-1, width)
            columns.load(blocks, repeat_importance(weights, len(blocks)))
            scale, zero = columns.search(steps=STEPS, refits=REFITS) if search else columns.full_range()
            columns.encode(scale, zero, out=codes[place].reshape(-1, width))
            scales[place], zeros[place] = scale.reshape(-1, count), zero.reshape(-1, count)

        return round_rows

    for_row_pieces(rows, rows_of_piece((rows, count, width)), worker)
    whole = codes if codes.shape[1] == features else np.ascontiguousarray(codes[:, :features])
    return BlockQuantized(
        codes=whole, scales=scales, zero_points=zeros, format=block_format, channel_scales=channel_scales
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
