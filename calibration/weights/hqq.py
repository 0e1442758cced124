"""HQQ: zero points that fit the many small weights of a block and give up its few outliers. Needs no statistics.

Source: Badri, Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023), section "method". It
minimizes |W - dequantized|_p with p < 1 over the zero point at a fixed scale, alternating
    E <- sign(R) max(|R| - |R|**(p-1) / beta, 0) with R = W - dequantized      (the outliers)
    z <- mean over the block of (code - (W - E) / s),  beta <- kappa * beta.
Kernels that take float zero points are two orders slower than those with integers, so z is rounded at the end and the
scale refitted; a block keeps its start where that did not help.
"""

from __future__ import annotations

import numpy as np

from jisu.calibration.weights.block_scales import encode, full_range
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats, to_blocks

NORM = 0.7  # p; with beta, kappa and the steps as published
BETA = 10.0
KAPPA = 1.01
STEPS = 20
CHUNK_ROWS = 64


def hqq(weight: Floats, block_format: BlockFormat, *, layer: str, steps: int = STEPS) -> BlockQuantized:
    """Quantize a weight by half-quadratic splitting. A symmetric format has no zero point to find and is only rounded.

    Args:
        weight: float32 [N, K].
        layer: its name, for errors.
        steps: alternations.

    Raises:
        FormatError: the block size does not divide K.
    """
    blocks = to_blocks(np.ascontiguousarray(weight, dtype=np.float32), block_format, layer=layer)
    scale, zero = full_range(blocks, block_format)
    if not block_format.symmetric:
        for start in range(0, len(blocks), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            scale[rows], zero[rows] = _solve(blocks[rows], scale[rows], zero[rows], block_format, steps)
    codes = encode(blocks, scale, zero, block_format).reshape(len(weight), -1)[:, : weight.shape[1]]
    return BlockQuantized(
        codes=codes.astype(np.uint8), scales=scale, zero_points=zero.astype(np.uint8), format=block_format
    )


def shrink_outliers(rest: Floats, beta: float) -> Floats:
    """The proximal step of the p-norm: sign(r) * max(|r| - |r|**(p-1) / beta, 0); 0 stays 0."""
    size = np.abs(rest)
    penalty = np.where(size > 0, size, 1) ** (NORM - 1) / beta
    kept: Floats = np.where(size > 0, np.sign(rest) * np.maximum(size - penalty, 0), 0).astype(np.float32)
    return kept


def _solve(
    blocks: Floats, scale: Floats, start: Floats, block_format: BlockFormat, steps: int
) -> tuple[Floats, Floats]:
    zero, beta = start, BETA
    for _ in range(steps):
        # Codes are not clipped to a moved zero point before they are compared: encode does both with one zero.
        codes = encode_float(blocks, scale, zero, block_format)
        rest = blocks - (codes - zero[..., None]) * scale[..., None]
        outliers = shrink_outliers(rest, beta)
        zero = (codes - (blocks - outliers) / scale[..., None]).mean(axis=-1, dtype=np.float32)
        beta *= KAPPA
    rounded = np.clip(np.rint(zero), 0, block_format.largest_code).astype(np.float32)
    fitted = _fit_scale(blocks, scale, rounded, block_format)
    better = _loss(blocks, fitted, rounded, block_format) < _loss(blocks, scale, start, block_format)
    return np.where(better, fitted, scale), np.where(better, rounded, start)


def encode_float(blocks: Floats, scale: Floats, zero: Floats, block_format: BlockFormat) -> Floats:
    """clip(round(w / s + z), 0, 2**bits - 1) with a zero point that need not be an integer."""
    codes: Floats = np.rint(blocks / scale[..., None] + zero[..., None])
    np.clip(codes, 0, block_format.largest_code, out=codes)
    return codes


def _fit_scale(blocks: Floats, scale: Floats, zero: Floats, block_format: BlockFormat) -> Floats:
    steps = encode(blocks, scale, zero, block_format) - zero[..., None]
    square, product = (steps * steps).sum(axis=-1), (steps * blocks).sum(axis=-1)
    good = (square > 0) & (product > np.finfo(np.float32).tiny)
    fitted: Floats = np.where(good, product / np.where(good, square, 1), scale)
    return fitted


def _loss(blocks: Floats, scale: Floats, zero: Floats, block_format: BlockFormat) -> Floats:
    rest = (encode(blocks, scale, zero, block_format) - zero[..., None]) * scale[..., None] - blocks
    loss: Floats = (np.abs(rest) ** NORM).sum(axis=-1)
    return loss
