"""Weights of int8 with a scale for the tensor, each row or group: llm-compressor, ModelOpt, bitsandbytes, Quanto."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.float8 import declared_block
from jisu.exporter.sources.quantized.scale_grid import Tile, fit_tile
from jisu.exporter.sources.quantized.table import FLOATS, Stored, Table, unread, unusable
from jisu.exporter.sources.quantized.weight import Integers, QuantizedWeight

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MIDDLE = 128
# bitsandbytes divides by the largest code only when it multiplies.
_LARGEST = 127


def find_int8(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight of int8 that has a scale.

    Raises:
        InputError: a scale of another shape, zero points of another type, or a layout that bitsandbytes' kernels want.
    """
    for name, codes in table.items():
        stem = name.removesuffix(".weight")
        if name.endswith("._data._data"):
            raise unread(
                name.removesuffix("._data._data"),
                f"{name}: packed codes without their shape",
                "Quanto's codes of 8 bits",
            )
        if name.endswith("._data") and codes.dtype == "int8":
            scales = table.get(f"{name.removesuffix('._data')}._scale")
            if scales is not None:
                yield int8_weight(name.removesuffix("._data"), codes, scales, None, declared, label="Quanto")
        elif not name.endswith(".weight") or codes.dtype != "int8":
            continue
        elif (scales := table.get(f"{stem}.SCB")) is not None:
            yield _vectorwise(stem, codes, scales, table)
        elif (scales := table.get(f"{name}_scale")) is not None and scales.dtype in FLOATS:
            yield int8_weight(name, codes, scales, table.get(f"{name}_zero_point"), declared, label="int8")


def _vectorwise(stem: str, codes: Stored, scales: Stored, table: Table) -> QuantizedWeight:
    """bitsandbytes: SCB is the largest magnitude of each row, which the code 127 stands for."""
    name, layout = f"{stem}.weight", table.get(f"{stem}.weight_format")
    parts = {codes.name: "codes", scales.name: "scales"}
    if layout is not None:
        parts[layout.name] = "layout"
        if int(layout.integers().reshape(-1)[0]) != 0:
            raise unread(name, f"{layout.name} {layout.integers()}", "rows as they are (0), not reordered for a GPU")
    if len(codes.shape) != 2 or scales.shape != codes.shape[:1]:
        raise unusable(name, f"codes of {list(codes.shape)}, SCB of {list(scales.shape)}", "one magnitude for each row")
    return QuantizedWeight(
        name=name,
        shape=codes.shape,
        form="bitsandbytes, 8 bits, a scale for each row, symmetric",
        parts=parts,
        bits=8,
        code_bits=8,
        group_size=codes.shape[1],
        integers=partial(
            _integers, codes, scales, None, Tile(rows=1, columns=codes.shape[1], grid=(codes.shape[0], 1)), _LARGEST
        ),
    )


def int8_weight(
    name: str, codes: Stored, scales: Stored, zeros: Stored | None, declared: Declaration, *, label: str
) -> QuantizedWeight:
    """A weight of int8; without groups along both axes it is one of integers that can be taken over."""
    tile = fit_tile(codes, scales, shape=codes.shape, block=declared_block(declared))
    if zeros is not None and (zeros.dtype != "int8" or zeros.shape != scales.shape):
        raise unusable(name, f"{zeros.name} {list(zeros.shape)} of {zeros.dtype}", "an int8 for each scale")
    parts = {codes.name: "codes", scales.name: "scales"}
    if zeros is not None:
        parts[zeros.name] = "zero points"
    whole = len(codes.shape) == 2 and (tile.rows == 1 or tile.rows >= codes.shape[0])
    return QuantizedWeight(
        name=name,
        shape=codes.shape,
        form=f"{label}, {tile.describe(codes.shape)}, {'symmetric' if zeros is None else 'with zero points'}",
        parts=parts,
        bits=8,
        code_bits=8 if whole else None,
        group_size=tile.columns if whole else None,
        integers=partial(_integers, codes, scales, zeros, tile, 1) if whole else None,
        read=None if whole else partial(_read, codes, scales, zeros, tile),
    )


def _integers(codes: Stored, scales: Stored, zeros: Stored | None, tile: Tile, divisor: int) -> Integers:
    import numpy as np

    signed = codes.integers()
    rows = len(signed)
    factors = scales.floats().reshape(tile.grid) / np.float32(divisor)
    points = np.zeros(tile.grid, np.int16) if zeros is None else zeros.integers().astype(np.int16).reshape(tile.grid)
    return Integers(
        codes=signed.view(np.uint8) ^ np.uint8(_MIDDLE),
        scales=np.ascontiguousarray(np.broadcast_to(factors, (rows, tile.grid[1]))),
        zero_points=np.ascontiguousarray(np.broadcast_to(points + _MIDDLE, (rows, tile.grid[1])).astype(np.uint8)),
        bits=8,
        group_size=tile.columns,
    )


def _read(codes: Stored, scales: Stored, zeros: Stored | None, tile: Tile) -> npt.NDArray[np.float32]:
    import numpy as np

    from jisu.exporter.sources.quantized.scale_grid import multiply_tiles

    if zeros is not None:
        raise unusable(codes.name, "zero points for blocks of rows", "zero points for a tensor, rows or groups")
    return multiply_tiles(codes.integers().astype(np.float32), scales.floats(), tile)
