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
from jisu.calibration.weights.folding import multiply_columns
from jisu.calibration.weights.formats import Floats

# Of the largest magnitude, so that a silent channel or an empty column gives a finite scale.
SMALLEST = 1e-4


def balancing_scales(mean_square: Floats, weights: Sequence[Floats], *, layer: str) -> Floats:
    """The scales, float32 [K], positive, their geometric mean 1.

    Args:
        mean_square: mean x**2 of each input channel, [K].
        weights: of every layer that reads x, [N_i, K] each.
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
    columns = _above_zero(np.sqrt(_column_squares(weights)))
    scales = np.sqrt(inputs / columns)
    return np.asarray(scales / np.exp(np.log(scales).mean()), dtype=np.float32)


def rounding_error(mean_square: Floats, weights: Sequence[Floats], *, block_size: int) -> float:
    """What rounding input and weights costs in the outputs, up to a factor that depends on neither.

    A block's values are rounded in steps of its largest one, and each error is multiplied with what it meets on the
    other side: sum over blocks of max(x)**2 * sum(w**2) + sum over rows of max(w)**2 * sum(x**2), with the root mean
    squares of the input for x.

    Args:
        mean_square: mean x**2 of each input channel, [K].
        weights: of every layer that reads x, [N_i, K] each; K a multiple of the block size.
    """
    squares = mean_square.astype(np.float64).reshape(-1, block_size)
    columns = _column_squares(weights).reshape(-1, block_size)
    inputs = float((squares.max(axis=1) * columns.sum(axis=1)).sum())
    widest = np.zeros(len(squares))
    for weight in weights:
        blocks = np.abs(weight).reshape(len(weight), -1, block_size).max(axis=2)
        widest += np.square(blocks, dtype=np.float64).sum(axis=0)
    return inputs + float((widest * squares.sum(axis=1)).sum())


def balanced_error(mean_square: Floats, weights: Sequence[Floats], scales: Floats, *, block_size: int) -> float:
    """`rounding_error` with these channel scales, relative to that without any."""
    plain = rounding_error(mean_square, weights, block_size=block_size)
    scaled = [multiply_columns(weight, scales) for weight in weights]
    divided = np.asarray(mean_square / np.square(scales), dtype=np.float32)
    return rounding_error(divided, scaled, block_size=block_size) / plain if plain > 0 else 1.0


def _column_squares(weights: Sequence[Floats]) -> npt.NDArray[np.float64]:
    """Sum of w**2 of each input feature over all layers that read it, [K]."""
    sums = [np.square(weight, dtype=np.float64).sum(axis=0) for weight in weights]
    return np.asarray(np.sum(sums, axis=0), dtype=np.float64)


def _above_zero(magnitudes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    largest = float(magnitudes.max(initial=0.0))
    return np.maximum(magnitudes, SMALLEST * largest) if largest > 0 else np.ones_like(magnitudes)
