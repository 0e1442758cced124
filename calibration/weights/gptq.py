"""GPTQ: each column is rounded in turn, and the columns still to come absorb its error.

Source: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (2023), section 3 and algorithm 1. With H = X^T X + damping and U the upper Cholesky factor of its
inverse, rounding column i leaves e = (w_i - q_i) / U_ii, and every later column j gives up e * U_ij: the least-squares
compensation. Rows are independent, so matrices with one input may be stacked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import ActivationError, CalibrationError
from jisu.calibration.weights.block_scales import full_range, least_error
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats
from jisu.calibration.weights.row_pieces import for_row_pieces

if TYPE_CHECKING:
    import torch

# Of an inverse, calculated at once.
_COLUMNS = 1024
# Weights rounded together: what a piece takes in memory is a dozen times as many bytes.
_PIECE = 1 << 22
# Columns that absorb each other's errors one by one; those behind them absorb these together.
_TOGETHER = 32
_SLAB = 256  # columns that absorb errors at once

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
        same[0].count_blocks(features, layer=layer)
        columns = _order_columns(diagonal, width, options.order)
        walk = _Walk(columns=columns, factor=inverse_factor(hessian, columns, options.damping, layer=layer))
        results |= zip(same, _round_rows(weight, walk, same, options), strict=True)
        del walk
    return [results[one] for one in formats]


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """The columns of a matrix in the order they are rounded, and what each leaves to those behind it.

    Attributes:
        columns: [K].
        factor: see `inverse_factor`, for these columns.
    """

    columns: npt.NDArray[np.intp]
    factor: Floats


def _round_rows(
    weight: Floats, walk: _Walk, formats: Sequence[BlockFormat], options: GptqOptions
) -> list[BlockQuantized]:
    """Round in each format, some rows at a time, on all cores: rows do not depend on each other."""
    rows, features = weight.shape
    results = [
        BlockQuantized(
            codes=np.empty((rows, features), np.uint8),
            scales=np.empty((rows, -(-features // one.width(features))), np.float32),
            zero_points=np.empty((rows, -(-features // one.width(features))), np.uint8),
            format=one,
        )
        for one in formats
    ]
    # As many pieces on every machine: where a product is cut may move the last bits of its sums.
    pieces = -(-rows // max(1, _PIECE // features))
    size = -(-rows // pieces)

    def worker() -> Callable[[slice], None]:
        def round_pieces(numbers: slice) -> None:
            for number in range(numbers.start, numbers.stop):
                one, piece = divmod(number, pieces)
                start, stop = piece * size, min((piece + 1) * size, rows)
                if start < stop:
                    _round_columns(weight[start:stop], walk, results[one].rows(start, stop), options)

        return round_pieces

    for_row_pieces(pieces * len(formats), 1, worker, few=1)
    return results


def _round_columns(weight: Floats, walk: _Walk, result: BlockQuantized, options: GptqOptions) -> None:
    """Round the columns in their order, each error taken up by those to come.

    Args:
        weight: some rows.
        result: what is written, of these rows.
    """
    columns, factor, block_format = walk.columns, walk.factor, result.format
    rows, features = weight.shape
    width = block_format.width(features)
    count = -(-features // width)
    block_of = columns // width
    # One row per column of the weight: what is updated together is contiguous.
    left = np.array(weight.T[columns], dtype=np.float32, order="C")
    codes = np.empty(left.shape, dtype=np.uint8)
    scales = np.empty((count, rows), dtype=np.float32)
    zeros = np.empty((count, rows), dtype=np.float32)
    importance = (np.diagonal(factor).astype(np.float64) ** -2).astype(np.float32)
    importance /= importance.max()
    largest = np.float32(block_format.largest_code)
    code = np.empty(rows, np.float32)
    update = np.empty((max(_TOGETHER, _SLAB), rows), np.float32)

    def set_scales(block: int, places: npt.NDArray[np.intp] | slice) -> None:
        values = np.ascontiguousarray(left[places].T)
        if options.search:
            scales[block], zeros[block] = least_error(values, block_format, importance=importance[places])
        else:
            scales[block], zeros[block] = full_range(values, block_format)

    def take_off(errors: Floats, start: int, begin: int, end: int) -> None:
        """Let the columns from ``begin`` to ``end`` absorb the errors of those from ``start`` on."""
        own = factor[start : start + len(errors)]
        for first in range(begin, end, _SLAB):
            last = min(first + _SLAB, end)
            left[first:last] -= np.matmul(own[:, first:last].T, errors, out=update[: last - first])

    if options.order == "columns":
        place = np.argsort(columns)
        for block in range(count):
            set_scales(block, place[block * width : (block + 1) * width])
    for begin, end, runs in _batches(block_of, options):
        errors = np.empty((end - begin, rows), dtype=np.float32)
        for start, stop in runs:
            block = block_of[start]
            if options.order != "columns" and (start == 0 or block_of[start - 1] != block):
                set_scales(block, slice(start, start + min(width, features - block * width)))
            for i in range(start, stop):
                scale, zero = scales[block_of[i]], zeros[block_of[i]]
                np.rint(np.divide(left[i], scale, out=code), out=code)
                code += zero
                np.minimum(np.maximum(code, 0, out=code), largest, out=code)
                np.copyto(codes[i], code, casting="unsafe")
                code -= zero
                code *= scale
                error = np.subtract(left[i], code, out=errors[i - begin])
                error /= factor[i, i]
                if i + 1 < stop:
                    behind = update[: stop - i - 1]
                    left[i + 1 : stop] -= np.multiply(factor[i, i + 1 : stop, None], error, out=behind)
            take_off(errors[start - begin : stop - begin], start, stop, end)
        take_off(errors, begin, end, features)

    ordered = np.empty_like(codes)
    ordered[columns] = codes
    np.copyto(result.codes, ordered.T)
    np.copyto(result.scales, scales.T)
    np.copyto(result.zero_points, zeros.T, casting="unsafe")


def inverse_factor(hessian: Hessian, columns: npt.NDArray[np.intp], damping: float, *, layer: str) -> Floats:
    """Upper Cholesky factor U of the damped inverse, U^T U = H^-1, columns in the given order; float32 [K, K].

    Computed in float64. A feature that was never active gets a diagonal of the mean, so that it is rounded alone.

    Raises:
        ActivationError: the Hessian is not finite, zero, or has a negative direction larger than the damping.
    """
    import torch

    # H = U' U'^T with U' upper is the Cholesky factor from the other end, and its inverse the one that is needed.
    backwards = columns[::-1]
    damped = _in_order(hessian, backwards)
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


def _in_order(hessian: Hessian, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Rows and columns in an order, float64; some rows at a time, so that there is no second copy."""
    import torch

    own, order = torch.from_numpy(hessian), torch.from_numpy(columns.copy())
    ordered = torch.empty(own.shape, dtype=torch.float64)
    for start in range(0, len(own), _SLAB):
        ordered[start : start + _SLAB] = own[order[start : start + _SLAB]].index_select(1, order)
    return ordered.numpy()


def _invert_lower(lower: torch.Tensor) -> None:
    """Replace a lower triangular matrix by its inverse, from the last columns to the first."""
    import torch

    for stop in range(len(lower), 0, -_COLUMNS):
        start = max(0, stop - _COLUMNS)
        own = lower[start:stop, start:stop]
        inverse = torch.linalg.solve_triangular(own, torch.eye(len(own), dtype=lower.dtype), upper=False)
        lower[stop:, start:stop] = lower[stop:, stop:] @ (lower[stop:, start:stop] @ inverse.neg())
        lower[start:stop, start:stop] = inverse


def _order_columns(diagonal: npt.NDArray[np.float64], width: int, order: Order) -> npt.NDArray[np.intp]:
    """The columns in the order they are rounded, in blocks of a width; ties keep their place."""
    if order == "natural":
        return np.arange(len(diagonal))
    if order == "columns":
        return np.argsort(-diagonal, kind="stable")
    blocks = [slice(start, start + width) for start in range(0, len(diagonal), width)]
    means = np.array([diagonal[block].mean() for block in blocks])
    sequence = [blocks[i] for i in np.argsort(-means, kind="stable")]
    return np.concatenate([block.start + np.argsort(-diagonal[block], kind="stable") for block in sequence])


def _batches(block_of: npt.NDArray[np.intp], options: GptqOptions) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Ranges of columns, about ``batch`` long, each with its parts, at most `_TOGETHER` long.

    Where scales are set on the way, parts and ranges end with a block.
    """
    features = len(block_of)
    set_before = options.order == "columns"
    cuts = [0, *(i for i in range(1, features) if not set_before and block_of[i] != block_of[i - 1]), features]
    batches: list[tuple[int, int, list[tuple[int, int]]]] = []
    begin, runs = 0, []
    for start, stop in itertools.pairwise(cuts):
        for first in range(start, stop, _TOGETHER):
            last = min(first + _TOGETHER, stop)
            runs.append((first, last))
            if last - begin >= options.batch and (set_before or last == stop):
                batches.append((begin, last, runs))
                begin, runs = last, []
    return [*batches, (begin, features, runs)] if runs else batches
