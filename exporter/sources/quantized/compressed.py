"""llm-compressor's packed integers: ``weight_packed`` with ``weight_scale``, ``weight_shape`` and zero points.

Signed codes are stored with half their range added, packed along the input features; zero points along the output
features. Releases before 0.20 left gaps where a code would have crossed from one word to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.packing import unpack, unpack_columns, unpack_with_gaps
from jisu.exporter.sources.quantized.table import FLOATS, Stored, Table, unusable
from jisu.exporter.sources.quantized.weight import Integers, QuantizedWeight

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ALLOWED = "weight_packed [N, K * bits / 32], weight_scale [N, groups] and weight_shape, as llm-compressor writes them"


def find_packed(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight packed into 32-bit words.

    Raises:
        InputError: a part that is missing or has another shape or type.
    """
    for name, packed in table.items():
        if name.endswith(".weight_packed") and packed.dtype == "int32":
            yield _packed(name.removesuffix(".weight_packed"), packed, table, declared)


def weight_settings(declared: Declaration) -> list[dict[str, Any]]:
    """What each group of layers says of its weights."""
    groups = declared.setting("config_groups")
    settings = (
        [one.get("weights") for one in groups.values() if isinstance(one, dict)] if isinstance(groups, dict) else []
    )
    return [one for one in settings if isinstance(one, dict)]


def _packed(stem: str, packed: Stored, table: Table, declared: Declaration) -> QuantizedWeight:
    name = f"{stem}.weight"
    scales, zeros = table.get(f"{name}_scale"), table.get(f"{name}_zero_point")
    shape, order = table.get(f"{name}_shape"), table.get(f"{name}_g_idx")
    if scales is None or scales.dtype not in FLOATS:
        raise unusable(name, f"{packed.name} without scales that are floats", _ALLOWED)
    if len(packed.shape) != 2 or len(scales.shape) != 2 or scales.shape[0] not in (1, packed.shape[0]):
        raise unusable(name, f"codes of {list(packed.shape)} and scales of {list(scales.shape)}", _ALLOWED)
    settings = weight_settings(declared)
    rows, columns = _stated_shape(name, shape, packed, settings)
    bits, gaps = _bits(name, packed.shape[1], columns, settings)
    own = [one for one in settings if one.get("num_bits") == bits]
    if zeros is None and own and all(one.get("symmetric") is False for one in own):
        raise unusable(name, f"no {name}_zero_point of weights that are not symmetric", _ALLOWED)
    if zeros is not None and len(zeros.shape) != 2 and zeros.shape not in ((), (1,)):
        raise unusable(name, f"{zeros.name} of {list(zeros.shape)}", _ALLOWED)
    group = _group_size(name, scales.shape[1], columns, own)
    parts = {packed.name: "codes", scales.name: "scales"}
    roles = ((zeros, "zero points"), (shape, "shape"), (order, "groups of columns"))
    parts |= {part.name: role for part, role in roles if part is not None}
    groups = "a scale for each row" if scales.shape[1] == 1 else f"groups of {group}"
    return QuantizedWeight(
        name=name,
        shape=(rows, columns),
        form=f"compressed-tensors, {bits} bits, {groups}, {'symmetric' if zeros is None else 'with zero points'}",
        parts=parts,
        bits=bits,
        code_bits=bits,
        group_size=group,
        integers=partial(_integers, name, packed, scales, zeros, order, (columns, bits, group), gaps=gaps),
    )


def _stated_shape(name: str, shape: Stored | None, packed: Stored, settings: list[dict[str, Any]]) -> tuple[int, int]:
    if shape is not None:
        sizes = [int(size) for size in shape.integers().reshape(-1)]
        if len(sizes) != 2 or sizes[0] != packed.shape[0]:
            raise unusable(name, f"{shape.name} {sizes} for codes of {list(packed.shape)}", _ALLOWED)
        return sizes[0], sizes[1]
    bits = {one.get("num_bits") for one in settings}
    if len(bits) != 1 or not isinstance(only := bits.pop(), int) or packed.shape[1] * 32 % only:
        raise unusable(name, f"no {name}_shape, and {len(settings)} declared formats", _ALLOWED)
    return packed.shape[0], packed.shape[1] * 32 // only


def _bits(name: str, words: int, columns: int, settings: list[dict[str, Any]]) -> tuple[int, bool]:
    """(bits, whether there are gaps) that fit a row of so many words."""
    said = [one["num_bits"] for one in settings if isinstance(one.get("num_bits"), int)] or list(range(2, 9))
    fitting = [(bits, False) for bits in dict.fromkeys(said) if -(-columns * bits // 32) == words]
    fitting += [(bits, True) for bits in dict.fromkeys(said) if 32 % bits and -(-columns // (32 // bits)) == words]
    if len(fitting) != 1:
        raise unusable(
            name, f"rows of {words} words for {columns} columns, and declared bits {said}", "bits that fit one way only"
        )
    return fitting[0]


def _group_size(name: str, groups: int, columns: int, settings: list[dict[str, Any]]) -> int:
    for one in settings:
        size = one.get("group_size")
        if isinstance(size, int) and size > 0 and -(-columns // size) == groups:
            return size
    if not groups or columns % groups:
        raise unusable(name, f"{groups} groups of {columns} columns", "groups of equal size")
    return columns // groups


def _integers(
    name: str,
    packed: Stored,
    scales: Stored,
    zeros: Stored | None,
    order: Stored | None,
    sizes: tuple[int, int, int],
    *,
    gaps: bool,
) -> Integers:
    import numpy as np

    columns, bits, group = sizes
    words = packed.integers()
    codes = (unpack_with_gaps if gaps else unpack)(words, bits)[:, :columns]
    factors = np.broadcast_to(scales.floats(), (len(codes), scales.shape[1]))
    points = np.full(factors.shape, 1 << (bits - 1), np.uint8)
    if zeros is not None:
        points = np.broadcast_to(_zero_points(name, zeros, bits, len(codes), gaps=gaps), factors.shape)
    groups = None
    if order is not None:
        groups = order.integers().astype(np.int64).reshape(-1)
        if groups.shape != (columns,) or groups.min() < -1 or groups.max() >= scales.shape[1]:
            raise unusable(name, f"{order.name} {list(groups.shape)} up to {groups.max()}", "a group for each column")
        # Minus one throughout stands for groups that were never assigned.
        if groups.min() < 0 or np.array_equal(groups, np.arange(columns) // group):
            groups = None
    return Integers(
        codes=np.ascontiguousarray(codes),
        scales=np.ascontiguousarray(factors),
        zero_points=np.ascontiguousarray(points),
        bits=bits,
        group_size=group,
        groups=groups,
    )


def _zero_points(name: str, zeros: Stored, bits: int, rows: int, *, gaps: bool) -> npt.NDArray[np.uint8]:
    """uint8 [N, groups], with half the range added like the codes."""
    import numpy as np

    if zeros.dtype == "int32":
        words = zeros.integers()
        unpacked = unpack_with_gaps(np.ascontiguousarray(words.T), bits) if gaps else unpack_columns(words, bits)
        if unpacked.shape[1] < rows:
            raise unusable(name, f"{zeros.name} of {list(zeros.shape)} for {rows} rows", _ALLOWED)
        return np.ascontiguousarray(unpacked[:, :rows].T)
    if zeros.dtype != "int8":
        raise unusable(name, f"{zeros.name} of {zeros.dtype}", "zero points of int8, or packed into int32")
    points = zeros.integers().astype(np.int16).reshape(zeros.shape or (1, 1)) + (1 << (bits - 1))
    if points.min() < 0 or points.max() >= 1 << bits:
        raise unusable(name, f"zero points from {points.min()} to {points.max()}", f"0 to {(1 << bits) - 1}")
    return points.astype(np.uint8)
