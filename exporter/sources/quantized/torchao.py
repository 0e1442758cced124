"""torchao's weights in safetensors files, taken apart into ``_weight_qdata``, ``_weight_scale`` and so on.

Read are those whose codes lie as the weight does: 8-bit integers, smaller ones in whole bytes, and 8-bit floats.
Packed four bits are laid out for GPU kernels and refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.float8 import read_float8
from jisu.exporter.sources.quantized.int8 import int8_weight
from jisu.exporter.sources.quantized.scale_grid import fit_tile
from jisu.exporter.sources.quantized.table import FLOATS, Table, unread, unusable
from jisu.exporter.sources.quantized.weight import QuantizedWeight

_CODES = "_qdata"
_ALLOWED = "codes of int8 or float8 with a float scale for each row, group or block"


def find_torchao(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight that torchao took apart.

    Raises:
        InputError: codes that are packed, or a scale that is missing.
    """
    for name, codes in table.items():
        stem, _, last = name.rpartition(".")
        if not (last.startswith("_") and last.endswith(_CODES)):
            continue
        own = last.removeprefix("_").removesuffix(_CODES)
        weight, prefix = f"{stem}.{own}", name.removesuffix(_CODES)
        scales, zeros = table.get(f"{prefix}_scale"), table.get(f"{prefix}_zero_point")
        if scales is None or scales.dtype not in FLOATS:
            raise unusable(weight, f"{name} without a float {prefix}_scale", _ALLOWED)
        if codes.dtype == "int8":
            yield int8_weight(weight, codes, scales, zeros, declared, label="torchao")
        elif codes.dtype.startswith("float8") and zeros is None:
            tile = fit_tile(codes, scales, shape=codes.shape)
            yield QuantizedWeight(
                name=weight,
                shape=codes.shape,
                form=f"torchao float8, {tile.describe(codes.shape)}",
                parts={name: "codes", scales.name: "scales"},
                bits=8,
                read=partial(read_float8, codes, scales, tile),
            )
        else:
            raise unread(weight, f"{name} of {codes.dtype}, packed for GPU kernels", _ALLOWED)
