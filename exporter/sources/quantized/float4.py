"""Weights of 4-bit floats (E2M1) with a scale for every 16 or 32 columns: MXFP4 and NVFP4, as the tools store them.

MXFP4 has exponents for scales. NVFP4 has 8-bit floats, which one more float for the whole tensor multiplies (ModelOpt)
or divides (llm-compressor). Two values share a byte, the first in its low half.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.packing import unpack
from jisu.exporter.sources.quantized.table import FLOATS, Stored, Table, unusable
from jisu.exporter.sources.quantized.weight import Integers, QuantizedWeight

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Twice the values, which makes integers of them; the second half is negative.
DOUBLED = (0, 1, 2, 3, 4, 6, 8, 12)
_MIDDLE = 128


def find_float4(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight of 4-bit floats.

    Raises:
        InputError: blocks without scales, or of another shape than their scales say.
    """
    for name, codes in table.items():
        if name.endswith("_blocks") and codes.dtype == "uint8":
            yield _experts(codes, table)
        elif name.endswith(".weight_packed") and codes.dtype == "uint8":
            stem = name.removesuffix(".weight_packed")
            yield _matrix(codes, f"{stem}.weight", table, total=f"{stem}.weight_global_scale", divides=True)
        elif name.endswith(".weight") and codes.dtype in ("uint8", "int8"):
            scales = table.get(f"{name}_scale") or table.get(f"{name}_scale_inv") or table.get(_beside(name))
            if scales is not None and _is_small(scales, codes):
                yield _matrix(codes, name, table, total=f"{name}_scale_2", divides=False, scales=scales)


def _beside(name: str) -> str:
    return f"{name.removesuffix('.weight')}.scale"


def _is_small(scales: Stored, codes: Stored) -> bool:
    """Whether scales are of one byte each, which those of 8-bit weights never are."""
    exponents = scales.dtype == "float8_e8m0fnu" or (scales.dtype == "uint8" and codes.dtype == "uint8")
    return len(scales.shape) == 2 and (exponents or scales.dtype == "float8_e4m3fn")


def _experts(blocks: Stored, table: Table) -> QuantizedWeight:
    """gpt-oss: blocks [E, N, groups, 16] and scales [E, N, groups] of a weight that is used as [E, K, N]."""
    name = blocks.name.removesuffix("_blocks")
    scales = table.get(f"{name}_scales")
    if scales is None:
        raise unusable(name, f"{blocks.name} without {name}_scales", "blocks of 32 values, and a scale for each")
    if blocks.shape[:-1] != scales.shape or blocks.shape[-1] != 16 or scales.dtype != "uint8":
        raise unusable(
            name,
            f"blocks of {list(blocks.shape)} and scales of {list(scales.shape)} in {scales.dtype}",
            "16 bytes in every block and an exponent of one byte for it",
        )
    *outer, rows, groups = scales.shape
    return QuantizedWeight(
        name=name,
        shape=(*outer, groups * 32, rows),
        form="mxfp4, groups of 32",
        parts={blocks.name: "codes", scales.name: "scales"},
        bits=4,
        read=partial(_read_experts, blocks, scales),
    )


def _read_experts(blocks: Stored, scales: Stored) -> npt.NDArray[np.float32]:
    import numpy as np

    packed, powers = blocks.integers(), scales.floats() / 2
    *outer, rows, groups = powers.shape
    values = np.empty((*outer, groups * 32, rows), np.float32)
    table = _values()
    for place in np.ndindex(*outer):
        one = table[unpack(packed[place], 4)] * powers[place][..., None]
        values[place] = one.reshape(rows, groups * 32).T
    return values


def _matrix(
    codes: Stored, name: str, table: Table, *, total: str, divides: bool, scales: Stored | None = None
) -> QuantizedWeight:
    scales = scales or table.get(f"{name}_scale")
    if scales is None:
        raise unusable(name, f"{codes.name} without {name}_scale", "a scale for every 16 or 32 columns")
    whole = table.get(total)
    nvidia = scales.dtype == "float8_e4m3fn"
    group = 16 if nvidia else 32
    rows = codes.shape[0]
    columns = codes.shape[-1] * 2
    if len(codes.shape) != 2 or scales.shape != (rows, columns // group) or columns % group:
        raise unusable(
            name,
            f"codes of {list(codes.shape)} and scales of {list(scales.shape)} in {scales.dtype}",
            f"[N, K/2] bytes of 4-bit floats and [N, K/{group}] scales",
        )
    if nvidia and (whole is None or whole.shape not in ((), (1,)) or whole.dtype not in FLOATS):
        raise unusable(name, f"8-bit scales without {total}", "a float for the whole tensor beside the scales")
    parts = {codes.name: "codes", scales.name: "scales"}
    if nvidia and whole is not None:
        parts[whole.name] = "scale of the scales"
    return QuantizedWeight(
        name=name,
        shape=(rows, columns),
        form=f"{'nvfp4' if nvidia else 'mxfp4'}, groups of {group}",
        parts=parts,
        bits=4,
        code_bits=8,
        group_size=group,
        integers=partial(_integers, codes, scales, whole if nvidia else None, group, divides=divides),
    )


def _integers(codes: Stored, scales: Stored, whole: Stored | None, group: int, *, divides: bool) -> Integers:
    """Doubled values as 8-bit integers around 128, with half the scale: the same numbers, bit for bit."""
    import numpy as np

    factors = scales.floats()
    if whole is not None:
        total = whole.floats().reshape(())
        if not total > 0:
            raise unusable(whole.name, float(total), "a positive scale")
        factors = factors / total if divides else factors * total
    table = np.array([*DOUBLED, *(-one for one in DOUBLED)]) + _MIDDLE
    packed = codes.integers().view(np.uint8)
    return Integers(
        codes=table.astype(np.uint8)[unpack(packed, 4)],
        scales=(factors / 2).astype(np.float32),
        zero_points=np.full(factors.shape, _MIDDLE, np.uint8),
        bits=8,
        group_size=group,
    )


def _values() -> npt.NDArray[np.float32]:
    import numpy as np

    return np.array([*DOUBLED, *(-one for one in DOUBLED)], np.float32)
