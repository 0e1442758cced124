"""Codes that are numbers of one byte, and scales for tiles of them: per tensor, row, group, block or expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jisu.exporter.sources.quantized.table import Stored, unusable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

_BLOCK = 128  # rows and columns of a block where nothing says it
_PIECE = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Rows and columns that share a scale, and how many tiles there are: ``grid`` [..., tile rows, tile columns]."""

    rows: int
    columns: int
    grid: tuple[int, ...]

    def describe(self, shape: tuple[int, ...]) -> str:
        rows, columns = shape[-2:]
        if self.rows >= rows and self.columns >= columns:
            return "a scale for each tensor"
        if self.columns >= columns:
            return "a scale for each row" if self.rows == 1 else f"a scale for {self.rows} rows"
        if self.rows == 1:
            return f"groups of {self.columns}"
        return f"blocks of {self.rows} x {self.columns}"


def fit_tile(codes: Stored, scales: Stored, *, shape: tuple[int, ...], block: tuple[int, int] | None = None) -> Tile:
    """Which tile each scale is for, known from the shapes alone, or by the block size that the checkpoint declares.

    Args:
        shape: of the values, [..., N, K].
        block: declared rows and columns of a block; -1 for all.

    Raises:
        InputError: the scales fit no tiling, or more than one.
    """
    stored = scales.shape
    if len(shape) < 2 or 0 in stored or 0 in shape:
        raise _misfit(codes, scales, shape)
    rows, columns = shape[-2:]
    count = 1
    for size in stored:
        count *= size
    outer = shape[:-2]
    if count == 1:
        return Tile(rows=rows, columns=columns, grid=(1,) * len(outer) + (1, 1))
    if len(stored) == 1 and len(shape) == 2 and stored[0] == rows:
        return Tile(rows=1, columns=columns, grid=(rows, 1))
    if outer and stored == outer:
        return Tile(rows=rows, columns=columns, grid=(*outer, 1, 1))
    if outer and stored == (*outer, rows):
        return Tile(rows=1, columns=columns, grid=(*outer, rows, 1))
    if len(stored) != len(shape) or any(size not in (1, full) for size, full in zip(stored[:-2], outer, strict=True)):
        raise _misfit(codes, scales, shape)
    tile_rows = _tile(rows, stored[-2], None if block is None else block[0])
    tile_columns = _tile(columns, stored[-1], None if block is None else block[1])
    if tile_rows is None or tile_columns is None:
        raise _misfit(codes, scales, shape)
    return Tile(rows=tile_rows, columns=tile_columns, grid=stored)


def _tile(size: int, count: int, declared: int | None) -> int | None:
    """How many of ``size`` share a scale when there are ``count`` scales; None when that cannot be known."""
    if count == 1:
        return size
    if count == size:
        return 1
    if declared is not None and declared > 0 and -(-size // declared) == count:
        return declared
    if size % count == 0 and declared is None and -(-size // _BLOCK) == count:
        return _BLOCK
    if size % count == 0:
        return size // count
    return _BLOCK if -(-size // _BLOCK) == count else None


def spread(scales: Floats, tile: Tile, shape: tuple[int, ...]) -> Floats:
    """Scales [..., tile rows, tile columns] over the columns of their tiles: [..., tile rows, K]."""
    import numpy as np

    wide = scales.reshape(tile.grid)
    if tile.grid[-1] == 1:
        return wide
    spread_out: Floats = np.repeat(wide, tile.columns, axis=-1)[..., : shape[-1]]
    return spread_out


def multiply_tiles(values: Floats, scales: Floats, tile: Tile) -> Floats:
    """Multiply values [..., N, K] by the scale of each one's tile, in place."""
    import numpy as np

    wide = spread(scales, tile, values.shape)
    rows, columns = values.shape[-2:]
    step = max(1, _PIECE // max(columns, 1))
    for outer in np.ndindex(*values.shape[:-2]):
        own = tuple(0 if size == 1 else place for size, place in zip(tile.grid[:-2], outer, strict=True))
        for first in range(0, rows, step):
            which = np.minimum(np.arange(first, min(first + step, rows)) // tile.rows, tile.grid[-2] - 1)
            values[outer][first : first + step] *= wide[own][which]
    return values


def _misfit(codes: Stored, scales: Stored, shape: tuple[int, ...]) -> Exception:
    return unusable(
        codes.name,
        f"{scales.name} of {list(scales.shape)} for values of {list(shape)}",
        "one scale for the tensor, for each row, or for each block of a size that divides it or that is declared",
    )
