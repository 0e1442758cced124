"""Channel scales for weights of 8 bits whose input is rounded to 8 bits at run time, block by block.

ONNX Runtime's MatMulNBits rounds each block of its input by the block's largest value, as the weight was: a channel
that is large in one of them takes the codes of its neighbours there. y = (x / s) @ (W * s).T is the same number, and
s_j = sqrt(rms(x_j) / rms(w_j)) makes every channel as large in the input as in the weight, which is SmoothQuant's
equation 4 with a = 1/2 and means in place of maxima (Xiao et al. 2023). `calibration.weights.folding` folds s away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import ActivationError
from jisu.calibration.weights.formats import Floats
from jisu.calibration.weights.row_pieces import for_row_pieces

_PIECE = 1 << 17  # weights
Doubles = npt.NDArray[np.float64]

# Of the largest magnitude, so that a silent channel or an empty column gives a finite scale.
SMALLEST = 1e-4


def balancing_scales(mean_square: Floats, columns: Doubles, *, layer: str) -> Floats:
    """The scales, float32 [K], positive, their geometric mean 1.

    Args:
        mean_square: mean x**2 of each input channel, [K].
        columns: `column_squares` of the layers that read x, [K].
        layer: a name for errors.

    Raises:
        ActivationError: the statistics are not finite.
    """
    if not np.isfinite(mean_square).all():
        raise ActivationError(
            f"The statistics of {layer} give no channel scales",
            received="NaN or infinite values",
            allowed="finite statistics",
            fix="Collect them again from a float32 model.",
        )
    inputs = _above_zero(np.sqrt(mean_square.astype(np.float64)))
    scales = np.sqrt(inputs / _above_zero(np.sqrt(columns)))
    return np.asarray(scales / np.exp(np.log(scales).mean()), dtype=np.float32)


def balanced_error(
    mean_square: Floats, weights: Sequence[Floats], scales: Floats, *, columns: Doubles, block_size: int
) -> float:
    """What rounding input and weights costs in the outputs with these channel scales, relative to that without any.

    A block's values are rounded in steps of its largest one, and each error is multiplied with what it meets on the
    other side: sum over blocks of max(x)**2 * sum(w**2) + sum over rows of max(w)**2 * sum(x**2), with the root mean
    squares of the input for x.

    Args:
        mean_square: mean x**2 of each input channel, [K].
        weights: of every layer that reads x, [N_i, K] each; the last block may be shorter.
        columns: their `column_squares`, [K].
    """
    plain = expected_error(
        mean_square, columns, widest_blocks(weights, None, block_size=block_size), block_size=block_size
    )
    if plain <= 0:
        return 1.0
    squares = np.square(scales, dtype=np.float64)
    widest = widest_blocks(weights, scales, block_size=block_size)
    return expected_error(mean_square / squares, columns * squares, widest, block_size=block_size) / plain


def expected_error(
    mean_square: npt.NDArray[np.floating], columns: Doubles, widest: Doubles, *, block_size: int
) -> float:
    """Of mean x**2 [K], sums of w**2 [K] and sums over rows of each block's max(w)**2 [blocks]."""
    missing = -len(mean_square) % block_size
    squares = np.pad(mean_square.astype(np.float64), (0, missing)).reshape(len(widest), -1)
    inputs = float((squares.max(axis=1) * np.pad(columns, (0, missing)).reshape(squares.shape).sum(axis=1)).sum())
    return inputs + float((widest * squares.sum(axis=1)).sum())


def column_squares(weights: Sequence[Floats]) -> Doubles:
    """Sum of w**2 of each input feature over all layers that read it, [K]."""
    sums = []
    for weight in weights:
        piece = _rows_of_piece(weight)
        # Pieces are added in their order, so that the sums do not depend on the number of threads.
        parts = np.empty((-(-len(weight) // piece), weight.shape[1]))

        def add(rows: slice, *, weight: Floats = weight, parts: Doubles = parts, piece: int = piece) -> None:
            np.einsum("nk,nk->k", weight[rows], weight[rows], out=parts[rows.start // piece], casting="unsafe")

        for_row_pieces(len(weight), piece, lambda add=add: add)  # type: ignore[misc]
        sums.append(parts.sum(axis=0))
    return np.asarray(np.sum(sums, axis=0), dtype=np.float64)


def widest_blocks(weights: Sequence[Floats], scales: Floats | None, *, block_size: int) -> Doubles:
    """Sum over all rows of each block's largest w**2, [blocks], of columns times scales where there are any."""
    features = weights[0].shape[1]
    missing = -features % block_size
    widest = np.zeros((features + missing) // block_size)
    for weight in weights:
        piece = _rows_of_piece(weight)
        parts = np.empty((-(-len(weight) // piece), len(widest)))

        def add(rows: slice, *, weight: Floats = weight, parts: Doubles = parts, piece: int = piece) -> None:
            part = weight[rows] if scales is None else weight[rows] * scales
            part = np.pad(part, ((0, 0), (0, missing))) if missing else part
            # A column for each block: extremes of columns are found many times as fast as those of short rows.
            columns = np.ascontiguousarray(part.reshape(-1, block_size).T)
            largest = np.maximum(columns.max(axis=0), -columns.min(axis=0))
            np.square(largest, out=largest)
            parts[rows.start // piece] = largest.reshape(len(part), -1).sum(axis=0)

        for_row_pieces(len(weight), piece, lambda add=add: add)  # type: ignore[misc]
        widest += parts.sum(axis=0)
    return widest


def _rows_of_piece(weight: Floats) -> int:
    return max(1, _PIECE // int(weight.shape[1]))


def _above_zero(magnitudes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    largest = float(magnitudes.max(initial=0.0))
    return np.maximum(magnitudes, SMALLEST * largest) if largest > 0 else np.ones_like(magnitudes)
