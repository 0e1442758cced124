"""AWQ: input channels with large activations get larger weights, and so a smaller relative rounding error.

Source: Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration" (2023), section
3.2. W becomes W * s and x becomes x / s, with s = mean|x|**alpha per input channel, normalized by sqrt(max s * min s);
alpha is found on a grid by the error of the outputs. Folding s away is `calibration.weights.folding`. The paper's
clipping search is `clip_blocks`: ranges by the error of each block's own contribution to the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import ActivationError
from jisu.calibration.weights.block_columns import SHRINK
from jisu.calibration.weights.block_scales import encode, full_range
from jisu.calibration.weights.folding import multiply_columns
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats, to_blocks
from jisu.calibration.weights.round_to_nearest import round_to_nearest

# Rows that judge a scale: all of them up to so many multiplications of an error with the Hessian, and then as many as
# that allows. Of a layer with thousands of rows some hundreds say the same: they meet the same inputs.
_MULTIPLICATIONS = 1 << 30
_FEWEST_ROWS = 256
POINTS = 20  # exponents that are tried
SMALLEST = 1e-4  # of a channel scale, as in the authors' code: a channel without activations must not vanish


@dataclass(frozen=True, kw_only=True)
class ChannelScales:
    """What the search found.

    Attributes:
        scales: float32 [K], positive; all 1 with alpha 0.
        alpha: the exponent.
        error: relative squared error of the outputs with these scales; ``plain_error`` without any.
    """

    scales: Floats
    alpha: float
    error: float
    plain_error: float


def search_channel_scales(
    weights: Sequence[Floats],
    block_format: BlockFormat,
    *,
    mean_abs: Floats,
    hessian: npt.NDArray[np.floating],
    layer: str,
    points: int = POINTS,
    search: bool = False,
) -> ChannelScales:
    """Find the channel scales for layers that read one input; of large layers, evenly spaced rows judge them.

    Args:
        weights: float32 [N_i, K] each.
        mean_abs: mean |x| per channel, [K].
        hessian: X^T X, [K, K], or only its diagonal, [K].
        layer: a name for errors.
        points: values of alpha, from 0 to 1 - 1/points.
        search: judge with scales of least squared error, which costs ten times as much.

    Raises:
        ActivationError: the statistics are not finite.
        FormatError: the block size does not divide K.
    """
    if not (np.isfinite(mean_abs).all() and np.isfinite(hessian).all()):
        raise ActivationError(
            f"The statistics of {layer} do not allow AWQ",
            received="NaN or infinite values",
            allowed="finite statistics",
            fix="Collect them again from a float32 model.",
        )
    stacked = np.concatenate([np.asarray(weight, dtype=np.float32) for weight in weights])
    stacked = _judging_rows(stacked)
    whole = output_error(stacked, hessian) or 1.0
    importance = hessian if hessian.ndim == 1 else np.diagonal(hessian)

    def error_of(scales: Floats) -> float:
        weighted = None if not search else importance / scales**2
        scaled = round_to_nearest(
            multiply_columns(stacked, scales), block_format, layer=layer, search=search, importance=weighted
        )
        return output_error(scaled.dequantize() / scales - stacked, hessian) / whole

    plain = error_of(np.ones(stacked.shape[1], dtype=np.float32))
    best = ChannelScales(scales=np.ones(stacked.shape[1], dtype=np.float32), alpha=0.0, error=plain, plain_error=plain)
    for point in range(1, points):
        alpha = point / points
        scales = np.maximum(mean_abs.astype(np.float32) ** np.float32(alpha), np.float32(SMALLEST))
        scales /= np.sqrt(scales.max() * scales.min())
        error = error_of(scales)
        if error < best.error:
            best = ChannelScales(scales=scales, alpha=alpha, error=error, plain_error=plain)
    return best


def count_judging_rows(rows: int, features: int) -> int:
    """How many rows of a layer judge its channel scales."""
    return min(rows, max(_FEWEST_ROWS, _MULTIPLICATIONS // features**2))


def _judging_rows(weight: Floats) -> Floats:
    count = count_judging_rows(*weight.shape)
    return weight if count == len(weight) else weight[np.linspace(0, len(weight) - 1, count).astype(np.intp)]


def clip_blocks(
    weight: Floats,
    hessian: npt.NDArray[np.floating],
    block_format: BlockFormat,
    *,
    layer: str,
    steps: int = 12,
) -> BlockQuantized:
    """Round to nearest with each block's range shrunk as far as e^T H_block e falls, e being its rounding error.

    Args:
        weight: float32 [N, K].
        hessian: X^T X, [K, K].
        steps: points of the grid from the full range to `SHRINK` of it.

    Raises:
        FormatError: the block size does not divide K.
    """
    blocks = to_blocks(np.ascontiguousarray(weight, dtype=np.float32), block_format, layer=layer)
    features = weight.shape[1]
    size = block_format.width(features)
    scale, zero = full_range(blocks, block_format)
    for block in range(blocks.shape[1]):
        places = slice(block * size, min((block + 1) * size, features))
        values = blocks[:, block, : places.stop - places.start]
        inner = np.asarray(hessian[places, places], dtype=np.float32)
        full, best = scale[:, block].copy(), np.full(len(weight), np.inf, dtype=np.float32)
        for shrink in np.linspace(1, SHRINK, steps, dtype=np.float32):
            tried = full * shrink
            rest = (encode(values, tried, zero[:, block], block_format) - zero[:, block, None]) * tried[:, None]
            rest -= values
            error = np.einsum("nk,nk->n", rest @ inner, rest)
            better = error < best
            best[better] = error[better]
            scale[better, block] = tried[better]
    codes = encode(blocks, scale, zero, block_format).reshape(len(weight), -1)[:, :features]
    return BlockQuantized(
        codes=codes.astype(np.uint8), scales=scale, zero_points=zero.astype(np.uint8), format=block_format
    )


def output_error(difference: Floats, hessian: npt.NDArray[np.floating]) -> float:
    """trace(D H D^T), the squared error of the outputs; D [N, K], H [K, K] or its diagonal [K]."""
    if hessian.ndim == 1:
        return float(np.sum(difference.astype(np.float64) ** 2 @ hessian))
    product = difference @ hessian.astype(np.float32)
    return float(np.sum(product * difference, dtype=np.float64))
