"""Says what is off in a matrix of stored integers: a scale, a zero point or a code, and where.

Asked after a failure only. Everything is read off what the operator makes of its integers, so that no packing has to be
known: in a block, a wrong scale multiplies all numbers, a wrong zero point moves all of them, a wrong code moves one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from jisu.calibration.w8a8.matmul import Quantized

Floats = npt.NDArray[np.float32]
# A block's numbers have one ratio, or one distance, within this share of the largest of them.
_ALIKE = 1e-3
_LEAST = 1e-6  # of the largest number of a row: below it two numbers are one


def name_difference(name: str, actual: Floats, part: Quantized) -> str | None:
    """One sentence about the first number that is off; None when none is.

    Args:
        name: of the parameter.
        actual: what the operator makes of the stored integers, float32 [N, K].
        part: what was intended.
    """
    from dataclasses import replace

    from jisu.calibration.weights.formats import BlockQuantized

    whole = replace(part, channel_scales=None)
    expected = (replace(whole, sums=0) if isinstance(whole, BlockQuantized) else whole).dequantize()
    if actual.shape != expected.shape:
        return f"{name} has the shape {actual.shape} instead of {expected.shape}."
    largest = np.maximum(np.abs(expected).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    bad = ~(np.abs(actual - expected) <= _LEAST * largest)
    if not bad.any():
        return None
    rows = np.flatnonzero(bad.any(axis=1))
    row = int(rows[0])
    width = _block_width(part, expected.shape[1])
    block = int(bad[row].argmax()) // width
    columns = slice(block * width, (block + 1) * width)
    what = _kind(actual[row, columns], expected[row, columns], bad[row, columns], _scale(part, row, block))
    blocks = -(-expected.shape[1] // width)
    place = f"row {row}" if blocks == 1 else f"row {row}, block {block}"
    more = f" {len(rows) - 1} other rows of it differ too." if len(rows) > 1 else ""
    return f"{name}, {place}: {what(block * width)}.{more}"


def _kind(actual: Floats, expected: Floats, bad: npt.NDArray[np.bool_], scale: float) -> Callable[[int], str]:
    """What is off in a block: a sentence, given the feature that the block begins with."""
    if not np.isfinite(actual).all():
        return lambda first: "the scale is not finite"
    large = np.abs(expected) > _ALIKE * np.abs(expected).max(initial=0)
    ratios = actual[large].astype(np.float64) / expected[large]
    distances = (actual.astype(np.float64) - expected) / scale
    if large.any() and bad[large].all() and np.ptp(ratios) <= _ALIKE * max(1e-9, float(np.abs(ratios).max())):
        factor = float(np.median(ratios))
        return lambda first: f"the scale is {factor:.4g} times the intended {scale:.6g}"
    if bad.all() and np.ptp(distances) <= _ALIKE * max(1.0, float(np.abs(distances).max())):
        steps = -float(np.median(distances))
        return lambda first: f"the zero point is off by {steps:+.3g}"
    at = int(bad.argmax())
    count = int(bad.sum())
    more = f" ({count} codes of the block are off)" if count > 1 else ""
    return lambda first: f"the code of feature {first + at} is off by {distances[at]:+.3g}{more}"


def _block_width(part: Quantized, features: int) -> int:
    from jisu.calibration.weights.formats import BlockQuantized

    return part.format.width(features) if isinstance(part, BlockQuantized) else features


def _scale(part: Quantized, row: int, block: int) -> float:
    return float(part.scales[row, block] if part.scales.ndim == 2 else part.scales[row]) or 1.0


def dequantized(run: Callable[[Floats], Floats], features: int) -> Floats:
    """What a product multiplies with, [N, K], by one input for each feature."""
    pieces = []
    for start in range(0, features, 256):
        stop = min(start + 256, features)
        probe: Floats = np.zeros((stop - start, features), np.float32)
        probe[np.arange(stop - start), np.arange(start, stop)] = 1
        pieces.append(run(probe))
    matrix: Floats = np.concatenate(pieces).T
    return matrix


def first_difference(actual: Floats, parts: Sequence[Quantized], names: Sequence[str]) -> str | None:
    """`name_difference` of matrices that lie one below the other in ``actual`` [sum of N, K]."""
    first = 0
    for name, part in zip(names, parts, strict=True):
        rows = len(part.codes)
        sentence = name_difference(name, actual[first : first + rows], part)
        if sentence is not None:
            return sentence
        first += rows
    return None
