"""Scale and zero point of a block: from its extremes, or the pair with the least (weighted) squared rounding error.

Everything is float32 and works on the last axis, so that one block of all rows or all blocks of one row are the same
call. Zero is always representable: integer zero points lie within the codes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jisu.calibration.weights.formats import BlockFormat, Floats

SHRINK = 0.6  # the smallest range tried, as a share of the full one; below it the clipped ends dominate
CHUNK = 1 << 17  # weights searched at a time, so that the buffers stay in the cache


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
    steps: int = 12,
    refits: int = 2,
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
    weights = None if importance is None else np.broadcast_to(importance, blocks.shape[1:]).astype(np.float32)
    rows = max(1, CHUNK // max(1, int(np.prod(blocks.shape[1:]))))
    pieces = [
        _search(blocks[start : start + rows], block_format, weights, steps, refits)
        for start in range(0, len(blocks), rows)
    ]
    return np.concatenate([scale for scale, _ in pieces]), np.concatenate([zero for _, zero in pieces])


def _search(
    blocks: Floats, block_format: BlockFormat, importance: Floats | None, steps: int, refits: int
) -> tuple[Floats, Floats]:
    full, start_zero = full_range(blocks, block_format)
    best = _Best(blocks, block_format, importance, full, start_zero)
    for shrink in np.linspace(1, SHRINK, steps, dtype=np.float32)[1:]:
        best.offer(full * shrink, start_zero)
    coarse_scale, coarse_zero = best.scale.copy(), best.zero.copy()
    for shift in (0,) if block_format.symmetric else (0, -1, 1):
        zero = np.clip(coarse_zero + np.float32(shift), 0, block_format.largest_code)
        scale = coarse_scale
        for _ in range(refits):
            scale = best.refit(scale, zero)
            best.offer(scale, zero)
    return best.scale, best.zero


class _Best:
    """The best scale and zero point seen so far of each block."""

    def __init__(
        self, blocks: Floats, block_format: BlockFormat, importance: Floats | None, scale: Floats, zero: Floats
    ) -> None:
        self._blocks, self._format, self._importance = blocks, block_format, importance
        self.scale, self.zero = scale.copy(), zero.copy()
        self._error = self._errors(scale, zero)

    def offer(self, scale: Floats, zero: Floats) -> None:
        error = self._errors(scale, zero)
        better = error < self._error
        np.copyto(self._error, error, where=better)
        np.copyto(self.scale, scale, where=better)
        np.copyto(self.zero, zero, where=better)

    def refit(self, scale: Floats, zero: Floats) -> Floats:
        """The least-squares scale for the codes that ``scale`` and ``zero`` give; unchanged where they are all zero."""
        steps = encode(self._blocks, scale, zero, self._format)
        steps -= zero[..., None]
        weighted = steps if self._importance is None else steps * self._importance
        square = np.einsum("...k,...k->...", weighted, steps)
        product = np.einsum("...k,...k->...", weighted, self._blocks)
        good = (square > 0) & (product > np.finfo(np.float32).tiny)
        fitted: Floats = np.where(good, product / np.where(good, square, 1), scale)
        return fitted

    def _errors(self, scale: Floats, zero: Floats) -> Floats:
        rest = encode(self._blocks, scale, zero, self._format)
        rest -= zero[..., None]
        rest *= scale[..., None]
        rest -= self._blocks
        rest *= rest
        if self._importance is not None:
            rest *= self._importance
        error: Floats = rest.sum(axis=-1)
        return error
