"""int8 weights whose products no CPU's 16-bit sums overflow with.

x86 CPUs without VNNI multiply unsigned by signed bytes with `pmaddubsw`: the products of input features 2i and 2i + 1
are added in int16, which saturates. Inputs reach 255, so that two weights of one sign overflow when their magnitudes
sum to more than 128; two of different signs never do. (ONNX Runtime 1.32: AVX2 and AVX-512 kernels of
`MlasGemmU8S8`; the kernels for other combinations of signs, and those of Arm, add in 32 bits.)

A smaller scale for all of a row would leave a bit of most codes unused. Here only a row's largest pair decides, and
where clipping that pair costs less than a coarser scale, it is clipped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jisu.calibration.w8a8.static_activations import ChannelQuantized
from jisu.calibration.weights.formats import Floats

# 255 * 128 = 32640 is the largest product that int16 holds, in magnitude.
LARGEST_PAIR = 128
_LARGEST_CODE = 127
_LARGEST_INT16 = 32767
# Scales tried for each row, from the finest, which clips most, to the one that clips nothing.
_TRIED = 6
# Rows at a time, so that what is computed on the way stays small.
_CHUNK = 1 << 22

Codes = npt.NDArray[np.int8]


def pair_sums(codes: Codes) -> npt.NDArray[np.int32]:
    """Magnitude of each pair's sum, [N, K / 2 rounded up]; 0 where the signs differ. ``codes`` [N, K]."""
    first, second = _pairs(codes.astype(np.int32))
    return np.where(first * second > 0, np.abs(first + second), 0)


def quantize_pairs(weight: Floats, *, importance: Floats | None = None) -> ChannelQuantized:
    """Symmetric int8 per output row, like `quantize_rows`, with codes of which no pair overflows.

    Of the scales between max|w| / 127 and the one with which the largest pair fits unclipped, each row gets the one
    with the least sum of importance * (w - code * scale)**2.

    Args:
        weight: float32 [N, K].
        importance: of each input feature, float32 [K], such as the mean of its square; the same for all when None.
    """
    rows, features = weight.shape
    codes, scales = np.zeros((rows, features), np.int8), np.ones(rows, np.float32)
    important = np.ones(features, np.float32) if importance is None else np.maximum(importance, 1e-12)
    step = max(1, _CHUNK // max(features, 1))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        codes[part], scales[part] = _quantize_chunk(weight[part], important.astype(np.float32))
    return ChannelQuantized(codes=codes, scales=scales)


def saturating_product(inputs: npt.NDArray[np.uint8], codes: Codes) -> npt.NDArray[np.int64]:
    """inputs [M, K] @ codes.T [K, N], int64 [M, N], as `pmaddubsw` and the additions behind it compute it."""
    x_first, x_second = _pairs(inputs.astype(np.int32))
    total = np.zeros((len(inputs), len(codes)), np.int64)
    step = max(1, _CHUNK // max(codes.shape[1], 1))
    for start in range(0, len(codes), step):
        first, second = _pairs(codes[start : start + step].astype(np.int32))
        for row in range(len(inputs)):
            sums = x_first[row] * first + x_second[row] * second
            clipped = np.clip(sums, -_LARGEST_INT16 - 1, _LARGEST_INT16).sum(axis=1, dtype=np.int64)
            total[row, start : start + step] = clipped
    return total


def _pairs(values: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Columns 2i and 2i + 1; behind an odd end stands a 0, as in the kernels."""
    even = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    return even[:, 0::2], even[:, 1::2]


def _quantize_chunk(weight: Floats, importance: Floats) -> tuple[Codes, Floats]:
    odd = weight.shape[1] % 2
    even = np.pad(weight, ((0, 0), (0, odd)))
    important = np.pad(importance, (0, odd))
    magnitudes = np.abs(even)
    both = np.where(even[:, 0::2] * even[:, 1::2] > 0, magnitudes[:, 0::2] + magnitudes[:, 1::2], 0)
    finest = magnitudes.max(axis=1) / np.float32(_LARGEST_CODE)
    coarsest = np.maximum(finest, both.max(axis=1) / np.float32(LARGEST_PAIR))
    usable = finest > np.finfo(np.float32).tiny
    best_error = np.full(len(weight), np.inf)
    best_codes, best_scales = np.zeros(even.shape, np.int8), np.ones(len(weight), np.float32)
    for share in np.linspace(0, 1, _TRIED, dtype=np.float32):
        scales = np.where(usable, finest + share * (coarsest - finest), 1).astype(np.float32)
        codes = _fitting_codes(even / scales[:, None], important)
        errors = (important * np.square(codes * scales[:, None] - even)).sum(axis=1, dtype=np.float64)
        better = errors < best_error
        best_error = np.where(better, errors, best_error)
        best_codes[better], best_scales[better] = codes[better].astype(np.int8), scales[better]
    return best_codes[:, : weight.shape[1]], best_scales


def _fitting_codes(scaled: Floats, importance: Floats) -> Floats:
    """The codes nearest to ``scaled`` [N, K even] with which no pair overflows, as float32.

    What a pair has too much is taken from both, so that the weighted squares of their errors sum to the least.
    """
    codes = np.clip(np.rint(scaled), -_LARGEST_CODE, _LARGEST_CODE)
    rows, pairs = np.nonzero(
        (codes[:, 0::2] * codes[:, 1::2] > 0) & (np.abs(codes[:, 0::2] + codes[:, 1::2]) > LARGEST_PAIR)
    )
    if len(rows) == 0:
        return codes
    first, second = 2 * pairs, 2 * pairs + 1
    signs = np.sign(codes[rows, first])
    lengths = [signs * codes[rows, column] for column in (first, second)]
    true = [signs * scaled[rows, column] for column in (first, second)]
    weights = [importance[first], importance[second]]
    excess = true[0] + true[1] - LARGEST_PAIR
    ideal = np.rint(true[0] - excess * weights[1] / (weights[0] + weights[1]))
    least = np.maximum(LARGEST_PAIR - _LARGEST_CODE, 0)
    shorter = np.clip(np.minimum(ideal, lengths[0]), least, _LARGEST_CODE)
    codes[rows, first] = signs * shorter
    codes[rows, second] = signs * np.minimum(lengths[1], LARGEST_PAIR - shorter)
    return np.asarray(codes, dtype=np.float32)
