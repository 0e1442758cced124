"""Moves a per-channel factor of an activation into the weights on both sides of it, so that nothing is left to run.

y = (x / s) @ (W * s).T is the same number as x @ W.T. The division goes into what makes x: the weight of a norm, or the
rows of the linear layer before it; the multiplication into the columns of every layer that reads x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jisu.calibration.errors import FormatError
from jisu.calibration.weights.formats import BlockQuantized, Floats


def divide_norm(weight: Floats, scales: Floats) -> Floats:
    """The norm's weight (or its bias) [K] over the scales [K].

    Only for norms that multiply by their weight; one that multiplies by (1 + weight) needs (1 + weight) / s - 1.
    """
    _check(weight.shape[0], scales)
    return np.asarray(weight / scales, dtype=np.float32)


def divide_rows(weight: Floats, scales: Floats) -> Floats:
    """The linear layer before, weight [K, in] (or bias [K]), its rows over the scales [K]."""
    _check(weight.shape[0], scales)
    return np.asarray(weight / scales.reshape(-1, *[1] * (weight.ndim - 1)), dtype=np.float32)


def divide_quantized_rows(quantized: BlockQuantized, scales: Floats) -> BlockQuantized:
    """`divide_rows` for a layer that is quantized already: only its block scales change, and no code."""
    _check(quantized.codes.shape[0], scales)
    divided = np.asarray(quantized.scales / scales[:, None], dtype=np.float32)
    return replace(quantized, scales=divided)


def multiply_columns(weight: Floats, scales: Floats) -> Floats:
    """A layer that reads the activation, weight [N, K], its columns times the scales [K]."""
    _check(weight.shape[1], scales)
    return np.asarray(weight * scales, dtype=np.float32)


def share_between_query_heads(values: Floats, heads: int, kv_heads: int) -> Floats:
    """Average values [heads * D] over the query heads that read one value head, and repeat the average for each.

    With grouped queries one row of the value projection feeds several columns of the output projection, which must then
    share a factor; ``one_per_value_head`` picks the factors for the rows.
    """
    groups = values.reshape(kv_heads, heads // kv_heads, -1)
    shared = np.broadcast_to(groups.mean(axis=1, keepdims=True), groups.shape)
    return np.asarray(shared.reshape(-1), dtype=np.float32)


def one_per_value_head(values: Floats, heads: int, kv_heads: int) -> Floats:
    """The factors [kv_heads * D] of the value projection's rows, from shared ones [heads * D]."""
    return np.ascontiguousarray(values.reshape(kv_heads, heads // kv_heads, -1)[:, 0].reshape(-1))


def widest_columns(weights: Sequence[Floats]) -> Floats:
    """max |w| of each input feature over all layers that read it; weights [N_i, K] -> float32 [K]."""
    return np.asarray(np.max([np.abs(weight).max(axis=0) for weight in weights], axis=0), dtype=np.float32)


def _check(channels: int, scales: Floats) -> None:
    if scales.shape != (channels,) or not np.isfinite(scales).all() or (scales <= 0).any():
        raise FormatError(
            "The channel scales do not fit the weight they are folded into",
            received=f"scales of shape {list(scales.shape)} for {channels} channels",
            allowed="one finite, positive scale per channel",
            fix="Use the scales that were found for this layer's own input.",
        )
