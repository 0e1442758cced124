"""Weights of 8-bit floats with scales beside them, by whatever name: blocks of DeepSeek, ModelOpt, FBGEMM and others.

A weight is its stored number times its scale; in spite of their name, ``weight_scale_inv`` are such factors as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.scale_grid import Tile, fit_tile, multiply_tiles
from jisu.exporter.sources.quantized.table import FLOATS, Stored, Table, unusable
from jisu.exporter.sources.quantized.weight import QuantizedWeight

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# What follows the weight's own name, or replaces its last part.
_SCALES = ("_scale_inv", "_scale", "_scales")
_BESIDE = ("scale_weight", "scale_inv", "scale")
_SCALE_TYPES = (*FLOATS, "uint8", "float8_e8m0fnu")


def find_float8(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight of 8-bit floats that has a scale."""
    for name, codes in table.items():
        if not codes.dtype.startswith("float8") or codes.dtype == "float8_e8m0fnu" or is_scale(name, table):
            continue
        scales = scale_of(name, table)
        if scales is None:
            continue
        if scales.dtype not in _SCALE_TYPES:
            raise unusable(name, f"{scales.name} of {scales.dtype}", "scales that are floats or exponents")
        tile = fit_tile(codes, scales, shape=codes.shape, block=declared_block(declared))
        kind = codes.dtype.removeprefix("float8_").removesuffix("fn")
        yield QuantizedWeight(
            name=name.removesuffix("._data"),
            shape=codes.shape,
            form=f"float8 {kind}, {tile.describe(codes.shape)}",
            parts={name: "codes", scales.name: "scales"},
            bits=8,
            read=partial(read_float8, codes, scales, tile),
        )


def scale_of(name: str, table: Table) -> Stored | None:
    """The scale that stands beside a weight; None where there is none."""
    stem, _, last = name.rpartition(".")
    if last == "_data":
        return table.get(f"{stem}._scale")
    names = [f"{name}{ending}" for ending in _SCALES]
    if last == "weight":
        names += [f"{stem}.{one}" for one in _BESIDE]
    return next((table[one] for one in names if one in table), None)


def is_scale(name: str, table: Table) -> bool:
    """Whether a tensor is the scale of another one of the table."""
    return any(name.endswith(ending) and name.removesuffix(ending) in table for ending in _SCALES)


def declared_block(declared: Declaration) -> tuple[int, int] | None:
    """Rows and columns of a block that the checkpoint declares; None where it declares none, or several."""
    block = declared.setting("weight_block_size")
    if block is None:
        groups = declared.setting("config_groups")
        groups = groups.values() if isinstance(groups, dict) else ()
        weights = [one.get("weights") for one in groups if isinstance(one, dict)]
        blocks = {
            str(one.get("block_structure")): one.get("block_structure") for one in weights if isinstance(one, dict)
        }
        block = next(iter(blocks.values())) if len(blocks) == 1 else None
    return (int(block[0]), int(block[1])) if _is_pair(block) else None


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(one, int) for one in value)


def read_float8(codes: Stored, scales: Stored, tile: Tile) -> npt.NDArray[np.float32]:
    """The values of 8-bit floats times their scales, float32."""
    import torch

    values = codes.read().to(torch.float32).numpy()
    return multiply_tiles(values, scales.floats(), tile)
