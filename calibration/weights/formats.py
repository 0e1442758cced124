"""Block-quantized weights: integers, a float32 scale and an integer zero point per block of input features.

A weight is [N, K] as `nn.Linear` stores it (y = x @ W.T). Each row is cut into blocks along K, and
w = (code - zero_point) * scale, which is ONNX DequantizeLinear with `axis` and `block_size` and also the arithmetic of
MatMulNBits with integer zero points. What is stored is exactly what runs: there is no hidden transform.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import FormatError

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

BLOCK_SIZES = (16, 32, 64, 128, 256)
# What a file can hold of each code and no kernel takes: see `calibration.weights.kernel_codes`.
STORED_BITS = (5, 6, 7)
ROW = 0  # instead of a block size: one scale for a whole row, whatever its length
SCALE_BYTES = 4  # float32
_PIECE = 1 << 20  # weights dequantized at once: what they take in between stays small


@dataclass(frozen=True, kw_only=True)
class BlockFormat:
    """How the rows of a matrix are quantized.

    Attributes:
        bits: 2..8 per code.
        block_size: input features that share a scale, one of `BLOCK_SIZES`, or `ROW`.
        symmetric: the zero point of every block is 2**(bits-1), and need not be stored.
        short_last_block: accept a K that the block size does not divide; the last block of each row is then shorter.
            MatMulNBits stores such a block padded, and other runtimes may refuse it. Stored alike otherwise, so that
            formats which differ in this alone are equal.
    """

    bits: int
    block_size: int
    symmetric: bool
    short_last_block: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise FormatError(
                "No integer format has this many bits", received=self.bits, allowed="2..8", fix="Use 4 or 8 bits."
            )
        if self.block_size not in (ROW, *BLOCK_SIZES):
            raise FormatError(
                "There is no kernel for this block size",
                received=self.block_size,
                allowed=", ".join(map(str, BLOCK_SIZES)),
                fix="Use 32, 64 or 128.",
            )

    @property
    def largest_code(self) -> int:
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point of a symmetric block, 2**(bits-1)."""
        return 1 << (self.bits - 1)

    def width(self, features: int) -> int:
        """Columns of a block in a row of ``features`` columns."""
        return self.block_size or features

    def count_blocks(self, features: int, *, layer: str) -> int:
        """Blocks in a row of ``features`` columns.

        Raises:
            FormatError: the block size does not divide them and a short last block is not accepted; names the layer.
        """
        width = self.width(features)
        if features % width and not self.short_last_block:
            fitting = [str(size) for size in BLOCK_SIZES if features % size == 0]
            raise FormatError(
                f"INT{self.bits} block size {self.block_size} does not divide K={features} of {layer}",
                received=f"{features} input features in blocks of {self.block_size}",
                allowed=f"block size {', '.join(fitting)}" if fitting else "none of the block sizes divides it",
                fix=f"Use block size {fitting[-1]}, or keep that layer." if fitting else "Keep that layer.",
            )
        return -(-features // width)

    def stored_bytes(self, rows: int, features: int, *, layer: str, scale_bytes: int = SCALE_BYTES) -> int:
        """Bytes of an [rows, features] matrix: packed codes, scales, and packed zero points if asymmetric."""
        blocks = self.count_blocks(features, layer=layer)
        codes = rows * blocks * (self.width(features) * self.bits // 8)
        bits = 8 if self.bits in STORED_BITS else self.bits  # only codes are stored in as many bits as they have
        zero_points = 0 if self.symmetric else rows * -(-blocks * bits // 8)
        return codes + rows * blocks * scale_bytes + zero_points


@dataclass(frozen=True, kw_only=True)
class BlockQuantized:
    """A quantized weight [N, K].

    Attributes:
        codes: uint8 [N, K], each 0..2**bits-1, one per byte.
        scales: float32 [N, blocks]; positive, except where a file's own blocks were taken over.
        zero_points: uint8 [N, blocks], each 0..2**bits-1.
        format: what they mean.
        channel_scales: float32 [K] or None. What is quantized is the weight times these, column by column, and what
            makes the input has to be divided by them (`calibration.weights.folding`); the runtime never sees them.
        columns: int64 [K] or None. The input feature that each column of the codes is for, where groups of features
            are no neighbours and were put side by side: what enters the matmul has to be put into that order too.
        sums: columns at the end of the codes that are for no input feature: one for the sum of each block of inputs,
            then zeros up to whole blocks. What they hold is added to every weight of the block, a zero point finer than
            an integer; what enters the matmul has these sums at its end (`exporter.graph.block_sums`).
        unreached: rounded without data although there was some: no token of it was sent to this expert.
        finer: the same weight in more bits, rounded with the same statistics, for whoever chooses between them.
    """

    codes: Codes
    scales: Floats
    zero_points: Codes
    format: BlockFormat
    channel_scales: Floats | None = None
    columns: npt.NDArray[np.int64] | None = None
    sums: int = 0
    unreached: bool = False
    finer: tuple[BlockQuantized, ...] = ()

    def dequantize(self) -> Floats:
        """(code - zero_point) * scale, float32 [N, K], over the channel scales: what stands for the original weight.

        In the order of the input features, whatever the order of the codes' columns.
        """
        rows, features = self.codes.shape
        weight: Floats = np.empty((rows, features - self.sums), np.float32)
        start = 0
        for piece in self.dequantize_pieces():
            weight[start : start + len(piece)] = piece
            start += len(piece)
        return weight

    def dequantize_pieces(self) -> Iterator[Floats]:
        """The rows of `dequantize` in their order, some at a time."""
        rows, features = self.codes.shape
        step = max(1, _PIECE // features)
        for start in range(0, rows, step):
            yield self.rows(start, start + step)._values()

    def rows(self, start: int, stop: int) -> BlockQuantized:
        """The same of some of its rows; the arrays are views."""
        return replace(
            self,
            codes=self.codes[start:stop],
            scales=self.scales[start:stop],
            zero_points=self.zero_points[start:stop],
        )

    def _values(self) -> Floats:
        features = self.codes.shape[1]
        weight: Floats = self.codes.astype(np.float32)
        if features == self.scales.shape[1] * self.format.width(features):
            blocks = weight.reshape(*self.scales.shape, -1)
            blocks -= self.zero_points[..., None]
            blocks *= self.scales[..., None]
        else:
            weight -= spread(self.zero_points, self.format, features)
            weight *= spread(self.scales, self.format, features)
        if self.sums:
            features -= self.sums
            blocks = features // self.format.width(features)
            weight = weight[:, :features] + spread(weight[:, features : features + blocks], self.format, features)
        if self.columns is not None:
            ordered, weight = weight, np.empty_like(weight)
            weight[:, self.columns] = ordered
        return weight if self.channel_scales is None else weight / self.channel_scales


def spread(per_block: npt.NDArray[Any], block_format: BlockFormat, features: int) -> npt.NDArray[Any]:
    """Repeat values [N, blocks] over the columns of their blocks -> [N, features]."""
    return np.repeat(per_block, block_format.width(features), axis=1)[:, :features]


def to_blocks(weight: Floats, block_format: BlockFormat, *, layer: str) -> Floats:
    """Cut [N, K] into [N, blocks, block_size]. A short last block repeats its last value, which changes no extreme.

    Raises:
        FormatError: see `BlockFormat.count_blocks`.
    """
    rows, features = weight.shape
    blocks = block_format.count_blocks(features, layer=layer)
    width = block_format.width(features)
    missing = blocks * width - features
    if missing:
        weight = np.pad(weight, ((0, 0), (0, missing)), mode="edge")
    return weight.reshape(rows, blocks, width)
