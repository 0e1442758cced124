"""GPTQ: each column is rounded in turn, and the columns still to come absorb its error.

Source: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (2023), section 3 and algorithm 1. With H = X^T X + damping and U the upper Cholesky factor of its
inverse, rounding column i leaves e = (w_i - q_i) / U_ii, and every later column j gives up e * U_ij: the least-squares
compensation. Rows are independent, so matrices with one input may be stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import ActivationError, CalibrationError
from jisu.calibration.weights.block_scales import encode, full_range, least_error
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats

if TYPE_CHECKING:
    import torch

# Of an inverse, calculated at once.
_COLUMNS = 1024

Order = Literal["natural", "blocks", "columns"]
Hessian = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class GptqOptions:
    """How GPTQ walks through a matrix.

    Attributes:
        order: ``natural`` takes the columns as they stand; ``blocks`` takes the blocks, and the columns in each, by
            falling mean square of their inputs (act-order that keeps a block contiguous), with scales from the weights
            as they are when their turn comes; ``columns`` is act-order over all columns, with scales fixed beforehand
            (static groups).
        damping: share of the mean diagonal of H that is added to its diagonal; larger trusts the statistics less. With
            0.1 SmolLM2-135M is nearer to itself than with 0.03 on texts of other sources, in 4 bits and in 5 and 6.
        search: scales of least squared error, weighted as GPTQ weighs columns, instead of those that clip nothing.
        batch: columns whose updates are gathered before the rest of the matrix is touched.
    """

    order: Order = "blocks"
    damping: float = 0.1
    search: bool = True
    batch: int = 128

    def __post_init__(self) -> None:
        if self.order not in ("natural", "blocks", "columns") or not 0 < self.damping <= 1 or self.batch < 1:
            raise CalibrationError(
                "The options of GPTQ are out of range",
                received=f"order={self.order!r}, damping={self.damping}, batch={self.batch}",
                allowed="order natural, blocks or columns; damping above 0 and up to 1; batch at least 1",
                fix="Leave them at their defaults.",
            )


def gptq(
    weight: Floats, hessian: Hessian, block_format: BlockFormat, *, layer: str, options: GptqOptions | None = None
) -> BlockQuantized:
    """Quantize a weight so that its outputs on the calibration inputs change least.

    Args:
        weight: float32 [N, K]; may be several matrices with one input, stacked.
        hessian: X^T X, [K, K], symmetric, any positive multiple of it. A feature that was never active is only rounded.
        layer: its name, for errors.

    Raises:
        FormatError: the block size does not divide K.
        ActivationError: the Hessian is not finite or not positive semi-definite.
    """
    (result,) = gptq_formats(weight, hessian, [block_format], layer=layer, options=options)
    return result


def gptq_formats(
    weight: Floats,
    hessian: Hessian,
    formats: Sequence[BlockFormat],
    *,
    layer: str,
    options: GptqOptions | None = None,
) -> list[BlockQuantized]:
    """`gptq` in each of several formats, in their order.

    Those with blocks of one size share the factor, which takes most of the time of layers with many features.
    """
    options = options or GptqOptions()
    features = weight.shape[1]
    diagonal = np.array(np.diagonal(hessian), dtype=np.float64)
    results: dict[BlockFormat, BlockQuantized] = {}
    for width in dict.fromkeys(one.width(features) for one in formats):
        same = [one for one in dict.fromkeys(formats) if one.width(features) == width]
        starts = range(0, same[0].count_blocks(features, layer=layer) * width, width)
        blocks = [slice(start, min(start + width, features)) for start in starts]
        columns, sequence = _walk(diagonal, blocks, options.order)
        factor = inverse_factor(hessian, columns, options.damping, layer=layer)
        for one in same:
            results[one] = _round_columns(weight, factor, columns, sequence, blocks, one, options)
        del factor
    return [results[one] for one in formats]


def _round_columns(
    weight: Floats,
    factor: Floats,
    columns: npt.NDArray[np.intp],
    sequence: list[int],
    blocks: list[slice],
    block_format: BlockFormat,
    options: GptqOptions,
) -> BlockQuantized:
    """Round the columns in their order, each error taken up by those to come.

    Args:
        factor: see `inverse_factor`, for these columns.
        sequence: of the blocks, see `_walk`.
    """
    rows, features = weight.shape
    count, width = len(blocks), block_format.width(features)
    # One row per column of the weight: what is updated together is contiguous.
    left = np.array(weight.T[columns], dtype=np.float32, order="C")
    codes: Floats = np.empty_like(left)
    scales = np.empty((count, rows), dtype=np.float32)
    zeros = np.empty((count, rows), dtype=np.float32)
    importance = (np.diagonal(factor).astype(np.float64) ** -2).astype(np.float32)
    importance /= importance.max()

    def set_scales(block: int, places: npt.NDArray[np.intp] | slice) -> None:
        values = np.ascontiguousarray(left[places].T)
        if options.search:
            scales[block], zeros[block] = least_error(values, block_format, importance=importance[places])
        else:
            scales[block], zeros[block] = full_range(values, block_format)

    if options.order == "columns":
        place = np.argsort(columns)
        for block, where in enumerate(blocks):
            set_scales(block, place[where])
    for begin, end in _batches(columns, blocks, sequence, options):
        errors = np.empty((end - begin, rows), dtype=np.float32)
        for i in range(begin, end):
            block = int(columns[i]) // width
            if options.order != "columns" and (i == 0 or columns[i - 1] // width != block):
                set_scales(block, slice(i, i + blocks[block].stop - blocks[block].start))
            scale, zero = scales[block], zeros[block]
            code = encode(left[i][:, None], scale, zero, block_format)[:, 0]
            codes[i] = code
            code = (code - zero) * scale
            error = (left[i] - code) / factor[i, i]
            errors[i - begin] = error
            left[i + 1 : end] -= factor[i, i + 1 : end, None] * error
        left[end:] -= factor[begin:end, end:].T @ errors

    ordered: Floats = np.empty_like(codes)
    ordered[columns] = codes
    return BlockQuantized(
        codes=np.ascontiguousarray(ordered.T).astype(np.uint8),
        scales=np.ascontiguousarray(scales.T),
        zero_points=np.ascontiguousarray(zeros.T).astype(np.uint8),
        format=block_format,
    )


def inverse_factor(hessian: Hessian, columns: npt.NDArray[np.intp], damping: float, *, layer: str) -> Floats:
    """Upper Cholesky factor U of the damped inverse, U^T U = H^-1, columns in the given order; float32 [K, K].

    Computed in float64. A feature that was never active gets a diagonal of the mean, so that it is rounded alone.

    Raises:
        ActivationError: the Hessian is not finite, zero, or has a negative direction larger than the damping.
    """
    import torch

    # H = U' U'^T with U' upper is the Cholesky factor from the other end, and its inverse the one that is needed.
    backwards = columns[::-1]
    damped = hessian[np.ix_(backwards, backwards)].astype(np.float64)
    flat = np.einsum("ii->i", damped)
    mean = float(flat[flat > 0].mean()) if np.any(flat > 0) else 1.0
    flat[flat <= 0] = mean
    flat += damping * mean
    try:
        if not np.isfinite(damped).all():
            raise np.linalg.LinAlgError("not finite")
        # In place, of the transpose: the same matrix in the order that LAPACK wants, so that there is no second one.
        lower = torch.from_numpy(damped).mT
        torch.linalg.cholesky(lower, out=lower)
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        raise ActivationError(
            f"The statistics of {layer} do not allow GPTQ",
            received=f"X^T X of shape {list(hessian.shape)}: {error}",
            allowed="a finite, positive semi-definite matrix",
            fix="Collect them again with more text, or raise the damping.",
        ) from error
    _invert_lower(lower)
    return np.ascontiguousarray(lower.numpy()[::-1, ::-1], dtype=np.float32)


def _invert_lower(lower: torch.Tensor) -> None:
    """Replace a lower triangular matrix by its inverse, from the last columns to the first."""
    import torch

    for stop in range(len(lower), 0, -_COLUMNS):
        start = max(0, stop - _COLUMNS)
        own = lower[start:stop, start:stop]
        inverse = torch.linalg.solve_triangular(own, torch.eye(len(own), dtype=lower.dtype), upper=False)
        lower[stop:, start:stop] = lower[stop:, stop:] @ (lower[stop:, start:stop] @ inverse.neg())
        lower[start:stop, start:stop] = inverse


def _walk(
    diagonal: npt.NDArray[np.float64], blocks: list[slice], order: Order
) -> tuple[npt.NDArray[np.intp], list[int]]:
    """The columns in the order they are rounded, and the blocks in theirs; ties keep their place."""
    if order == "natural":
        return np.arange(len(diagonal)), list(range(len(blocks)))
    if order == "columns":
        return np.argsort(-diagonal, kind="stable"), list(range(len(blocks)))
    means = np.array([diagonal[block].mean() for block in blocks])
    sequence = [int(block) for block in np.argsort(-means, kind="stable")]
    columns = [blocks[i].start + np.argsort(-diagonal[blocks[i]], kind="stable") for i in sequence]
    return np.concatenate(columns), sequence


def _batches(
    columns: npt.NDArray[np.intp], blocks: list[slice], sequence: list[int], options: GptqOptions
) -> list[tuple[int, int]]:
    """Ranges of columns, at least ``batch`` long; where scales are set on the way, they end with a block."""
    if options.order == "columns":
        return [(i, min(i + options.batch, len(columns))) for i in range(0, len(columns), options.batch)]
    ranges, begin, end = [], 0, 0
    for block in sequence:
        end += blocks[block].stop - blocks[block].start
        if end - begin >= options.batch:
            ranges.append((begin, end))
            begin = end
    return [*ranges, (begin, end)] if begin < end else ranges
