"""Integers with a float bias for every group: MLX, and HQQ, whose zero points are floats.

MLX: w = code * scale + bias, rows packed into 32-bit words. HQQ: w = (code - zero) * scale, over groups of the flat
weight, packed so that the first part of all rows lies in the high bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.packing import unpack
from jisu.exporter.sources.quantized.table import FLOATS, Stored, Table, unread, unusable
from jisu.exporter.sources.quantized.weight import QuantizedWeight

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

_MLX_BITS = (2, 3, 4, 5, 6, 8)
# HQQ's name of a packing -> the bits of a code, and those between it and the next one.
_HQQ_BITS = {"8bit_u8": 8, "4bit_u8": 4, "2bit_u8": 2, "1bit_u8": 1, "3bit_32": 3}
_HQQ_PARTS = ("shape", "axis", "packing", "view_as_float", "group_size", "nbits")
# What HQQ stores of how it was made and how it computes.
_HQQ_MORE = (
    "channel_wise",
    "compute_dtype",
    "encoded_state_dict",
    "offload_meta",
    "optimize",
    "quant_scale",
    "quant_zero",
    "round_zero",
    "stores_quant_config",
    "unpack_view_dtype",
)


def find_mlx(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight of 32-bit words with scales and biases.

    Raises:
        InputError: biases that are missing, or shapes that fit no number of bits.
    """
    for name, words in table.items():
        stem = name.removesuffix(".weight")
        scales = table.get(f"{stem}.scales")
        if not name.endswith(".weight") or words.dtype != "uint32" or scales is None:
            continue
        biases = table.get(f"{stem}.biases") or table.get(f"{stem}.qbiases")
        if biases is None or biases.shape != scales.shape or not {scales.dtype, biases.dtype} <= set(FLOATS):
            raise unusable(
                name, f"{scales.name} of {scales.dtype} without biases like it", "a float scale and bias for each group"
            )
        # Layers may have settings of their own, under their names.
        own = declared.settings.get(stem)
        group = (own if isinstance(own, dict) else declared.settings).get("group_size", 64)
        columns = group * scales.shape[-1] if isinstance(group, int) else 0
        bits = words.shape[-1] * 32 // columns if columns > 0 else 0
        fits = bits in _MLX_BITS and bits * columns == words.shape[-1] * 32 and words.shape[:-1] == scales.shape[:-1]
        if not fits:
            raise unusable(
                name,
                f"words {list(words.shape)}, scales {list(scales.shape)}, groups of {group}",
                f"{', '.join(map(str, _MLX_BITS))} bits in groups of the declared size",
            )
        yield QuantizedWeight(
            name=name,
            shape=(*words.shape[:-1], columns),
            form=f"MLX, {bits} bits, groups of {group}, with biases",
            parts={name: "codes", scales.name: "scales", biases.name: "biases"},
            bits=bits,
            read=partial(_read_mlx, words, scales, biases, bits),
        )


def _read_mlx(words: Stored, scales: Stored, biases: Stored, bits: int) -> Floats:
    import numpy as np

    factors = scales.floats()
    values = unpack(words.integers(), bits).astype(np.float32)
    grouped = values.reshape(*factors.shape, -1)
    grouped *= factors[..., None]
    grouped += biases.floats()[..., None]
    return values


def find_hqq(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight that HQQ stored.

    Raises:
        InputError: a part that is missing, or a packing that is not known.
    """
    for name, codes in table.items():
        if not name.endswith(".W_q"):
            continue
        stem = name.removesuffix(".W_q")
        parts = {part: table.get(f"{stem}.{part}") for part in ("scale", "zero", *_HQQ_PARTS)}
        missing = [part for part, tensors in parts.items() if tensors is None]
        if missing:
            raise unusable(f"{stem}.weight", f"no {', '.join(missing)} beside {name}", "what HQQ's state_dict holds")
        tensors = {part: one for part, one in parts.items() if one is not None}
        roles = {name: "codes", tensors["scale"].name: "scales", tensors["zero"].name: "zero points"}
        roles |= {tensors[part].name: "format" for part in _HQQ_PARTS}
        roles |= {f"{stem}.{one}": "format" for one in _HQQ_MORE if f"{stem}.{one}" in table}
        packing = bytes(tensors["packing"].integers().astype("uint8").reshape(-1).tolist()).decode("ascii", "replace")
        shape = tuple(int(size) for size in tensors["shape"].integers().reshape(-1))
        axis, group = _number(tensors["axis"]), _number(tensors["group_size"])
        if packing not in _HQQ_BITS or _number(tensors["view_as_float"]) or axis not in (0, 1) or group <= 0:
            raise unread(
                f"{stem}.weight",
                f"packing {packing!r}, axis {axis}, groups of {group}, "
                f"view_as_float {_number(tensors['view_as_float'])}",
                f"packing {', '.join(_HQQ_BITS)}, of integers as such",
            )
        if prod(shape) % group:
            raise unusable(f"{stem}.weight", f"groups of {group} in {list(shape)}", "a size that divides the weight")
        yield QuantizedWeight(
            name=f"{stem}.weight",
            shape=shape,
            form=f"HQQ, {_HQQ_BITS[packing]} bits, groups of {group} along axis {axis}, with zero points",
            parts=roles,
            bits=_HQQ_BITS[packing],
            read=partial(_read_hqq, codes, tensors["scale"], tensors["zero"], (shape, group, axis, _HQQ_BITS[packing])),
        )


def _number(stored: Stored) -> int:
    return int(stored.integers().reshape(-1)[0])


def _read_hqq(codes: Stored, scale: Stored, zero: Stored, form: tuple[tuple[int, ...], int, int, int]) -> Floats:
    import numpy as np

    shape, group, axis, bits = form
    words = codes.integers()
    rows = prod(shape) // group if axis == 1 else group
    parts = 10 if bits == 3 else 8 // bits  # three bits: ten codes in a word, the first highest; two bits are left over
    pieces = [((words >> (bits * (parts - 1 - part))) & ((1 << bits) - 1)).astype(np.float32) for part in range(parts)]
    values = np.concatenate(pieces)[:rows]
    if values.size != prod(shape):
        raise unusable(codes.name, f"codes of {list(codes.shape)}", f"codes of a weight {list(shape)}")
    values -= zero.floats()
    values *= scale.floats()
    return values.reshape(shape)
