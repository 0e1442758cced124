"""Weights that lie on a grid of few values already: a checkpoint that was quantized before and is stored as floats.

A block of such a weight holds at most 2**bits values at equal distances, low + step * (0, 1, 2, ...). Rounding it anew
onto another grid would lose as much again as the first time; taking over step and codes loses nothing. Formats with a
minimum per block (Q4_1 and Q4_K of GGUF) have a grid that does not go through zero, which integer zero points cannot
say: what is left over is one number a block, and is kept as a weight of the block's sum of inputs. In 4 bits that
number is known to a thirtieth of a step or better.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats
from jisu.calibration.weights.half_scales import round_scales
from jisu.calibration.weights.round_to_nearest import round_to_nearest

BLOCK_SIZES = (128, 64, 32, 16)
# How far from its place on the grid a weight may lie, in steps. Rounding to float16 or bfloat16 moves the largest of 16
# values by up to a thirtieth; of weights without a grid a block of 16 fits by chance with a probability of 1e-14.
TOLERANCE = 1 / 24
# Rows looked at together; few at first, which tell most weights without a grid.
_FIRST_ROWS, _ROWS = 8, 512


def find_grid(weight: Floats, *, bits: int, layer: str) -> BlockQuantized | None:
    """The codes of a weight that lies on a grid, the longest blocks that fit; None when it lies on none.

    Every block of the weight has to fit. The result has ``sums`` where the grid does not go through zero.

    Args:
        weight: float32 [N, K].
        bits: of a code.
        layer: its name, for errors.
    """
    features = weight.shape[1]
    for size in BLOCK_SIZES:
        if features % size:
            continue
        form = BlockFormat(bits=bits, block_size=size, symmetric=False)
        pieces = []
        for start in (0, *range(_FIRST_ROWS, len(weight), _ROWS)):
            stop = start + _ROWS if start else _FIRST_ROWS
            piece = _fit(np.ascontiguousarray(weight[start:stop], dtype=np.float32), form)
            if piece is None:
                break
            pieces.append(piece)
        else:
            grid = BlockQuantized(
                codes=np.concatenate([codes for codes, _, _ in pieces]).reshape(weight.shape).astype(np.uint8),
                scales=np.concatenate([steps for _, steps, _ in pieces]),
                zero_points=np.concatenate([zeros for _, _, zeros in pieces]).astype(np.uint8),
                format=form,
            )
            return _with_sums(weight, round_scales(grid), layer=layer)
    return None


def _fit(rows: Floats, form: BlockFormat) -> tuple[Floats, Floats, Floats] | None:
    """(codes [rows, blocks, size], steps and zero points [rows, blocks]), None when one block lies on no grid."""
    blocks = rows.reshape(len(rows), -1, form.block_size)
    low, high = blocks.min(axis=-1), blocks.max(axis=-1)
    width = high - low
    codes, steps = np.zeros_like(blocks), np.where(low != 0, np.abs(low), 1).astype(np.float32)
    left = width > 0  # a block of one value is its own grid
    for count in range(form.largest_code, 0, -1):
        if not left.any():
            break
        step = width[left] / np.float32(count)
        places = (blocks[left] - low[left][:, None]) / np.maximum(step, np.finfo(np.float32).tiny)[:, None]
        nearest = np.rint(places)
        fits = np.abs(places - nearest).max(axis=-1) <= TOLERANCE
        where = tuple(index[fits] for index in np.nonzero(left))
        codes[where], steps[where] = nearest[fits], step[fits]
        left[where] = False
    if left.any():
        return None
    # The code of the lowest value, if zero were code 0: within what codes and zero points can say.
    first = np.clip(np.rint(low / steps), -form.largest_code, form.largest_code - codes.max(axis=-1))
    zeros = np.maximum(0, -first)
    codes += (first + zeros)[..., None]
    return codes, steps, zeros


def _with_sums(weight: Floats, grid: BlockQuantized, *, layer: str) -> BlockQuantized:
    """What the codes leave over, block by block, as columns for the sums of the inputs; none where it is nothing."""
    form, rows = grid.format, len(weight)
    rest = (weight - grid.dequantize()).reshape(rows, -1, form.block_size).mean(axis=-1, dtype=np.float32)
    if (np.abs(rest) <= TOLERANCE * grid.scales).all():
        return grid
    padded = np.pad(rest, ((0, 0), (0, -rest.shape[1] % form.block_size)))
    columns = round_scales(round_to_nearest(padded, form, layer=layer))
    return replace(
        grid,
        codes=np.concatenate([grid.codes, columns.codes], axis=1),
        scales=np.concatenate([grid.scales, columns.scales], axis=1),
        zero_points=np.concatenate([grid.zero_points, columns.zero_points], axis=1),
        sums=padded.shape[1],
    )
