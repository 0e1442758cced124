"""Scale and zero point of a block: from its extremes, or the pair with the least (weighted) squared rounding error.

Everything is float32 and works on the last axis, so that one block of all rows or all blocks of one row are the same
call. Zero is always representable: integer zero points lie within the codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from jisu.calibration.weights.block_columns import PIECE, BlockColumns
from jisu.calibration.weights.formats import BlockFormat, Floats
from jisu.calibration.weights.row_pieces import for_row_pieces

STEPS, REFITS = 12, 2  # of the search for the least error
SMALLEST = 64  # blocks of a piece, at least: below it NumPy's calls take longer than what they do


def full_range(blocks: Floats, block_format: BlockFormat) -> tuple[Floats, Floats]:
    """The tightest scale that clips nothing, and its zero point; float32 [...] each, for blocks [..., size].

    Symmetric: s = max|w| / (2**(bits-1) - 1). Asymmetric, with the range widened to hold zero: s = (max - min) /
    (2**bits - 1), z = round(-min / s). A block of zeros has scale 1.
    """
    if block_format.symmetric:
        widest = np.abs(blocks).max(axis=-1)
        scale = widest / np.float32(block_format.middle - 1)
        zero = np.full_like(scale, block_format.middle)
    else:
        low = np.minimum(blocks.min(axis=-1), 0)
        high = np.maximum(blocks.max(axis=-1), 0)
        scale = (high - low) / np.float32(block_format.largest_code)
        zero = np.rint(-low / np.where(scale > 0, scale, 1))
    # A range so small that its scale is denormal would overflow when divided by.
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1))
    return scale.astype(np.float32), zero.astype(np.float32)


def encode(blocks: Floats, scale: Floats, zero: Floats, block_format: BlockFormat) -> Floats:
    """clip(round(w / s) + z, 0, 2**bits - 1), as float32; blocks [..., size], scale and zero [...]."""
    codes: Floats = np.rint(blocks / scale[..., None])
    codes += zero[..., None]
    np.clip(codes, 0, block_format.largest_code, out=codes)
    return codes


def least_error(
    blocks: Floats,
    block_format: BlockFormat,
    *,
    importance: npt.NDArray[np.floating] | None = None,
    steps: int = STEPS,
    refits: int = REFITS,
) -> tuple[Floats, Floats]:
    """Scale and zero point that minimize sum(h * (w - dequantized)**2) over a shrinking grid, then by refitting.

    The grid shrinks the full range to `SHRINK` of it (the clipping search of GPTQ's and of AWQ's authors). Around its
    best point the neighbouring zero points are tried, and each refit solves for the scale with the codes held fixed,
    s = sum(h w c) / sum(h c c) with c = code - zero, and rounds again. Never worse than `full_range`.

    Args:
        blocks: float32 [rows, ..., size].
        importance: h, non-negative, broadcastable to the shape of ``blocks`` without its first axis; None means 1.
        steps: points of the grid, 1 for none beside the full range.
        refits: rounds of refitting for each zero point tried.

    Returns:
        float32 [rows, ...] each.
    """
    size = blocks.shape[-1]
    inner = blocks.shape[1:-1]
    weights = None
    if importance is not None:
        weights = np.broadcast_to(importance, blocks.shape[1:]).astype(np.float32).reshape(-1, size).T
    scale, zero = np.empty(blocks.shape[:-1], np.float32), np.empty(blocks.shape[:-1], np.float32)

    def worker() -> Callable[[slice], None]:
        columns = BlockColumns(block_format)

        def search(rows: slice) -> None:
            part = blocks[rows].reshape(-1, size)
            columns.load(part, repeat_importance(weights, len(part)))
            best = columns.search(steps=steps, refits=refits)
            scale[rows], zero[rows] = (one.reshape(-1, *inner) for one in best)

        return search

    for_row_pieces(len(blocks), rows_of_piece(blocks.shape), worker)
    return scale, zero


def rows_of_piece(shape: tuple[int, ...]) -> int:
    """Rows of blocks [rows, ..., size] that fit into the cache of a core together, at least one block of each size."""
    blocks = math.prod(shape[1:-1])
    return max(1, PIECE // max(1, blocks * shape[-1]), -(-SMALLEST // max(1, blocks)))


def repeat_importance(weights: Floats | None, count: int) -> Floats | None:
    """Weights [size, blocks of a row] for so many blocks of whole rows, [size, count]; one column serves all."""
    if weights is None or weights.shape[1] == 1:
        return weights
    return np.tile(weights, (1, count // weights.shape[1]))
