"""Blocks of GGUF files as `BlockQuantized`: bit for bit where a value is an integer times its block's scale.

Source: the block layouts of ggml (`ggml-common.h`). Only scales are read from the raw bytes here; the integers are what
the gguf package's own dequantizer gives, divided by them, so that every result is checked against that package.
Types that add a float minimum to each block have no such form: they are fitted as closely as 8 bits allow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import FormatError
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats, spread
from jisu.calibration.weights.round_to_nearest import round_to_nearest

Raw = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a type keeps its scales.

    Attributes:
        size: bytes of one block of the file.
        elements: of one block of the file.
        format: what its integers fit into; one scale for every ``format.block_size`` of the elements.
        scales: raw bytes [blocks, size] -> float32 [blocks, elements / block_size], of either sign.
    """

    size: int
    elements: int
    format: BlockFormat
    scales: Callable[[Raw], Floats]


def _half(raw: Raw, offset: int) -> Floats:
    """The float16 at an offset of each block, float32 [blocks, 1]."""
    return np.ascontiguousarray(raw[:, offset : offset + 2]).view("<f2").astype(np.float32)


def _q6_k(raw: Raw) -> Floats:
    """208 bytes of codes and signed scales of 16 elements each, then d: d * scale."""
    return np.asarray(_half(raw, 208) * raw[:, 192:208].view(np.int8).astype(np.float32))


def _q3_k(raw: Raw) -> Floats:
    """Sixteen 6-bit scales in 12 bytes (4 low bits of each in the first 8, 2 high bits in the last 4), then d."""
    packed, d = raw[:, 96:108], _half(raw, 108)
    low = np.concatenate([packed[:, :8] & 0x0F, packed[:, :8] >> 4], axis=1)
    high = np.concatenate([(packed[:, 8:] >> shift) & 3 for shift in (0, 2, 4, 6)], axis=1)
    return np.asarray(d * ((low | high << 4).astype(np.float32) - 32))


def _iq4_xs(raw: Raw) -> Floats:
    """d, eight 6-bit scales: 2 high bits of each in 2 bytes, 4 low bits in 4 bytes."""
    high = np.ascontiguousarray(raw[:, 2:4]).view("<u2").astype(np.uint32)
    low = np.stack([raw[:, 4:8] & 0x0F, raw[:, 4:8] >> 4], axis=2).reshape(len(raw), 8)
    highs = (high >> (2 * np.arange(8, dtype=np.uint32))) & 3
    return np.asarray(_half(raw, 0) * ((low | highs << 4).astype(np.float32) - 32))


def _format(bits: int, block_size: int) -> BlockFormat:
    return BlockFormat(bits=bits, block_size=block_size, symmetric=True)


EXACT = {
    "Q4_0": Layout(size=18, elements=32, format=_format(4, 32), scales=lambda raw: _half(raw, 0)),
    "Q5_0": Layout(size=22, elements=32, format=_format(5, 32), scales=lambda raw: _half(raw, 0)),
    "Q8_0": Layout(size=34, elements=32, format=_format(8, 32), scales=lambda raw: _half(raw, 0)),
    "Q3_K": Layout(size=110, elements=256, format=_format(4, 16), scales=_q3_k),
    "Q6_K": Layout(size=210, elements=256, format=_format(6, 16), scales=_q6_k),
    "IQ4_NL": Layout(size=18, elements=32, format=_format(8, 32), scales=lambda raw: _half(raw, 0)),
    "IQ4_XS": Layout(size=136, elements=256, format=_format(8, 32), scales=_iq4_xs),
}
# Integer times scale plus a float minimum per 16 or 32 elements. Eight bits of its own for each such block leave an
# error of at most a thirtieth of the file's own step.
CLOSEST = {
    "Q4_1": BlockFormat(bits=8, block_size=32, symmetric=False),
    "Q5_1": BlockFormat(bits=8, block_size=32, symmetric=False),
    "Q2_K": BlockFormat(bits=8, block_size=16, symmetric=False),
    "Q4_K": BlockFormat(bits=8, block_size=32, symmetric=False),
    "Q5_K": BlockFormat(bits=8, block_size=32, symmetric=False),
}
FLOATS = ("F32", "F16", "BF16")


def blocks_to_quantized(type_name: str, raw: Raw, values: Floats, *, layer: str) -> BlockQuantized:
    """The stored blocks of one matrix in the kernels' form.

    Args:
        type_name: one of `EXACT` or `CLOSEST`.
        raw: the tensor's bytes, uint8.
        values: what the gguf package dequantizes them to, float32 [N, K].
        layer: its name, for errors.

    Raises:
        FormatError: a type that has no such form, or blocks that are not what their type says.
    """
    if type_name in CLOSEST:
        return round_to_nearest(values, CLOSEST[type_name], layer=layer)
    if type_name not in EXACT:
        raise FormatError(
            f"{type_name} blocks in {layer} cannot be kept",
            received=type_name,
            allowed=", ".join((*EXACT, *CLOSEST)),
            fix="Export without --keep-quantization.",
        )
    layout = EXACT[type_name]
    rows, features = values.shape
    form = layout.format
    scales = layout.scales(raw.reshape(-1, layout.size)).reshape(rows, features // form.block_size)
    # A block whose scale is zero holds zeros. Negative scales stay: ggml uses them so that -8 stands for the largest
    # magnitude of a block, and turned round it would not fit into four bits.
    usable = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    codes = np.rint(values / spread(usable, form, features)) + form.middle
    if not (codes >= 0).all() or not (codes <= form.largest_code).all():
        raise FormatError(
            f"The {type_name} blocks of {layer} are damaged",
            received="values outside of their own blocks' range, or not finite",
            allowed="blocks as llama.cpp writes them",
            fix="Download or convert the file again.",
        )
    result = BlockQuantized(
        codes=codes.astype(np.uint8),
        scales=usable,
        zero_points=np.full(scales.shape, form.middle, np.uint8),
        format=form,
    )
    if not np.array_equal(result.dequantize(), values):
        raise FormatError(
            f"The {type_name} blocks of {layer} were not converted exactly",
            received="other values than the gguf package reads",
            allowed="the very same values",
            fix="This is a bug of jisu; export without --keep-quantization.",
        )
    return result


def widen(quantized: BlockQuantized) -> BlockQuantized:
    """The same numbers in codes of 8 bits, for operators that read whole bytes only."""
    form = BlockFormat(
        bits=8,
        block_size=quantized.format.block_size,
        symmetric=quantized.format.symmetric,
        short_last_block=quantized.format.short_last_block,
    )
    shift = form.middle - quantized.format.middle if form.symmetric else 0
    return BlockQuantized(
        codes=(quantized.codes + np.uint8(shift)).astype(np.uint8),
        scales=quantized.scales,
        zero_points=(quantized.zero_points + np.uint8(shift)).astype(np.uint8),
        format=form,
        channel_scales=quantized.channel_scales,
    )
