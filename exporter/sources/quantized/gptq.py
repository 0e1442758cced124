"""GPTQ's and AWQ's packed integers: ``qweight``, ``scales``, ``qzeros`` and, where columns were reordered, ``g_idx``.

GPTQ packs along the input features, qweight [K * bits / 32, N], and its first format stores zero points less one. AWQ
packs along the output features in an order of its own, qweight [K, N / 8], or, for its GEMV kernels, [N, K / 8].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.packing import unpack, unpack_columns
from jisu.exporter.sources.quantized.table import FLOATS, Stored, Table, unread, unusable
from jisu.exporter.sources.quantized.weight import Integers, QuantizedWeight

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BITS = (2, 3, 4, 8)
# The place of each of eight neighbouring output features among the nibbles of a word, from the lowest.
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
_WORD = 8  # nibbles of a word
_ALLOWED = "qweight with scales and qzeros beside it, as GPTQ ([K * bits / 32, N]) or AWQ ([K, N / 8]) store them"


@dataclass(frozen=True, kw_only=True)
class _Parts:
    name: str
    qweight: Stored
    scales: Stored
    qzeros: Stored | None
    g_idx: Stored | None

    def roles(self) -> dict[str, str]:
        roles = {self.qweight.name: "codes", self.scales.name: "scales"}
        if self.qzeros is not None:
            roles[self.qzeros.name] = "zero points"
        if self.g_idx is not None:
            roles[self.g_idx.name] = "groups of columns"
        return roles


def find_gptq(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight that is stored as GPTQ or AWQ do it.

    Raises:
        InputError: a part that is missing or has another shape or type, or a variant that is not read here.
    """
    for name, qweight in table.items():
        if not name.endswith(".qweight"):
            continue
        stem = name.removesuffix(".qweight")
        scales, qzeros = table.get(f"{stem}.scales"), table.get(f"{stem}.qzeros")
        if scales is None:
            raise unusable(f"{stem}.weight", f"{name} without {stem}.scales", _ALLOWED)
        parts = _Parts(
            name=f"{stem}.weight", qweight=qweight, scales=scales, qzeros=qzeros, g_idx=table.get(f"{stem}.g_idx")
        )
        _check_types(parts)
        rows = scales.shape[1]
        # Padded scales of the GEMV layout can look like another one's: there the configuration decides.
        if declared.setting("version") == "gemv" and qweight.shape[0] == scales.shape[0]:
            yield _gemv(parts, declared)
        elif qweight.shape[1] == rows:
            yield _gptq(parts, declared)
        elif qweight.shape[1] * _WORD == rows:
            yield _awq(parts, declared)
        else:
            raise _misfit(parts)


def _check_types(parts: _Parts) -> None:
    words = [part for part in (parts.qweight, parts.qzeros, parts.g_idx) if part is not None]
    wrong = [part for part in words if part.dtype != "int32"]
    wrong += [] if parts.scales.dtype in FLOATS else [parts.scales]
    if wrong or len(parts.qweight.shape) != 2 or len(parts.scales.shape) != 2:
        received = ", ".join(f"{part.name} {list(part.shape)} of {part.dtype}" for part in wrong or [parts.qweight])
        raise unusable(parts.name, received, "32-bit words of integers, and scales that are floats, of two axes each")


def _gptq(parts: _Parts, declared: Declaration) -> QuantizedWeight:
    groups, rows = parts.scales.shape
    bits = _gptq_bits(parts, declared)
    columns = parts.qweight.shape[0] * 32 // bits
    if parts.qweight.shape[0] * 32 % bits or (parts.g_idx is not None and parts.g_idx.shape != (columns,)):
        raise _misfit(parts)
    if declared.method not in ("", "gptq", "auto-round", "intel/auto-round"):
        raise unusable(parts.name, f"GPTQ's layout, and the method {declared.method!r} in {declared.origin}", _ALLOWED)
    group = _group_size(parts, declared, columns, groups)
    offset = _zero_offset(parts, declared)
    symmetric = declared.setting("sym", "symmetric") is True
    kind = "symmetric" if symmetric or parts.qzeros is None else "with zero points"
    return QuantizedWeight(
        name=parts.name,
        shape=(rows, columns),
        form=f"GPTQ, {bits} bits, {_groups_in_words(group, columns)}, {kind}",
        parts=parts.roles(),
        bits=bits,
        code_bits=bits,
        group_size=group,
        integers=partial(_gptq_integers, parts, bits, group, offset, symmetric=symmetric),
    )


def _gptq_bits(parts: _Parts, declared: Declaration) -> int:
    """Known from the packed zero points; several numbers of bits are declared layer by layer."""
    groups, rows = parts.scales.shape
    said = declared.count("bits")
    bits = said
    if parts.qzeros is not None:
        if len(parts.qzeros.shape) != 2 or parts.qzeros.shape[0] != groups or parts.qzeros.shape[1] * 32 % rows:
            raise _misfit(parts)
        bits = parts.qzeros.shape[1] * 32 // rows
    mixed = any(declared.setting(key) for key in ("dynamic", "extra_config", "layer_config"))
    if said is not None and said != bits and not mixed:
        raise unusable(
            parts.name, f"{bits} bits by the shapes, bits {said} in {declared.origin}", "a configuration that fits"
        )
    if bits not in _BITS:
        raise unread(parts.name, f"codes of {bits} bits", f"GPTQ with {', '.join(map(str, _BITS))} bits")
    return bits


def _group_size(parts: _Parts, declared: Declaration, columns: int, groups: int) -> int:
    said = declared.count("group_size", "q_group_size")
    if said is not None and said > 0 and -(-columns // said) == groups:
        return said
    if not groups or columns % groups:
        raise _misfit(parts)
    return columns // groups


def _zero_offset(parts: _Parts, declared: Declaration) -> int | None:
    """What is to be added to stored zero points: 1 in GPTQ's first format, 0 in its second; None where nothing says."""
    if not declared.method:
        return None
    stated = declared.setting("checkpoint_format", "format", "packing_format")
    form = str(stated or "gptq").lower().removeprefix("auto_round:")
    if form in ("gptq", "auto_gptq", "gptq_v1"):
        return 1
    # AutoRound's own packing, without a second part, stores them as they are.
    if form in ("gptq_v2", "gptqmodel", "auto_round"):
        return 0
    raise unread(parts.name, f"the format {stated!r} in {declared.origin}", "the formats gptq and gptq_v2")


def _gptq_integers(parts: _Parts, bits: int, group: int, offset: int | None, *, symmetric: bool) -> Integers:
    import numpy as np

    middle = 1 << (bits - 1)
    scales = np.ascontiguousarray(parts.scales.floats().T)
    codes = unpack_columns(parts.qweight.integers(), bits)
    zeros = np.full(scales.shape, middle, np.uint8)
    if parts.qzeros is not None:
        if offset is None:
            offset = _told_offset(parts, parts.qzeros, bits)
        zeros = np.ascontiguousarray(_stored_zeros(parts.qzeros, bits, offset)[:, : len(scales)].T)
        if symmetric and (zeros != middle).any():
            raise unusable(
                parts.name,
                f"zero points from {zeros.min()} to {zeros.max()}, though the weights are said to be symmetric",
                f"{middle} everywhere; the format (gptq or gptq_v2) may be declared wrongly",
            )
    groups = None
    if parts.g_idx is not None:
        groups = parts.g_idx.integers().astype(np.int64)
        if groups.min() < 0 or groups.max() >= scales.shape[1]:
            raise unusable(
                parts.g_idx.name, f"groups from {groups.min()} to {groups.max()}", f"0 to {scales.shape[1] - 1}"
            )
        if np.array_equal(groups, np.arange(len(groups)) // group):
            groups = None
    return Integers(codes=codes, scales=scales, zero_points=zeros, bits=bits, group_size=group, groups=groups)


def _told_offset(parts: _Parts, qzeros: Stored, bits: int) -> int:
    """The offset of symmetric weights, which their own zero points tell: they are the middle in one of the formats."""
    stored = _stored_zeros(qzeros, bits, 0)
    middle = 1 << (bits - 1)
    for offset in (1, 0):
        if (stored == middle - offset).all():
            return offset
    raise unusable(
        parts.name,
        "zero points, and no configuration that says which format of GPTQ they are in",
        "quantize_config.json, or quantization_config in config.json, with checkpoint_format gptq or gptq_v2",
    )


def _stored_zeros(qzeros: Stored, bits: int, offset: int) -> npt.NDArray[np.uint8]:
    """uint8 [groups, N]. The one is added to whole words, carries included, which undoes how it was subtracted."""
    import numpy as np

    words = qzeros.integers().view(np.uint32)
    if bits == 3:
        return np.asarray((unpack(words, bits) + np.uint8(offset)) & np.uint8(7), np.uint8)
    ones = sum(1 << place for place in range(0, 32, bits))
    return unpack(words + np.uint32(ones * offset), bits)


def _awq(parts: _Parts, declared: Declaration) -> QuantizedWeight:
    _check_awq(parts, declared, ("", "gemm", "awq", "auto_awq", "auto_round:auto_awq"))
    groups, rows = parts.scales.shape
    columns = parts.qweight.shape[0]
    if parts.qzeros is None or parts.qzeros.shape != (groups, rows // _WORD) or columns % groups:
        raise _misfit(parts)
    group = _group_size(parts, declared, columns, groups)
    return QuantizedWeight(
        name=parts.name,
        shape=(rows, columns),
        form=f"AWQ, 4 bits, {_groups_in_words(group, columns)}, with zero points",
        parts=parts.roles(),
        bits=4,
        code_bits=4,
        group_size=group,
        integers=partial(_awq_integers, parts, parts.qzeros, group),
    )


def _awq_integers(parts: _Parts, qzeros: Stored, group: int) -> Integers:
    import numpy as np

    return Integers(
        codes=np.ascontiguousarray(_reordered(parts.qweight).T),
        scales=np.ascontiguousarray(parts.scales.floats().T),
        zero_points=np.ascontiguousarray(_reordered(qzeros).T),
        bits=4,
        group_size=group,
    )


def _reordered(words: Stored) -> npt.NDArray[np.uint8]:
    """Nibbles in the order of the features that they are for."""
    codes = unpack(words.integers(), 4)
    ordered: npt.NDArray[np.uint8] = codes.reshape(len(codes), -1, 8)[:, :, list(_AWQ_ORDER)].reshape(len(codes), -1)
    return ordered


def _gemv(parts: _Parts, declared: Declaration) -> QuantizedWeight:
    """Scales and zero points are padded so that whole words begin with each group of kernels."""
    _check_awq(parts, declared, ("gemv",))
    rows, columns = parts.qweight.shape[0], parts.qweight.shape[1] * _WORD
    group = declared.count("group_size", "q_group_size")
    group = columns if group == -1 else group
    if parts.qzeros is None or not group or columns % group or parts.qzeros.shape[0] != rows:
        raise _misfit(parts)
    groups = columns // group
    if parts.scales.shape[1] < groups or parts.qzeros.shape[1] * _WORD < groups:
        raise _misfit(parts)
    return QuantizedWeight(
        name=parts.name,
        shape=(rows, columns),
        form=f"AWQ (gemv), 4 bits, {_groups_in_words(group, columns)}, with zero points",
        parts=parts.roles(),
        bits=4,
        code_bits=4,
        group_size=group,
        integers=partial(_gemv_integers, parts, parts.qzeros, group, groups),
    )


def _gemv_integers(parts: _Parts, qzeros: Stored, group: int, groups: int) -> Integers:
    import numpy as np

    return Integers(
        codes=unpack(parts.qweight.integers(), 4),
        scales=np.ascontiguousarray(parts.scales.floats()[:, :groups]),
        zero_points=np.ascontiguousarray(unpack(qzeros.integers(), 4)[:, :groups]),
        bits=4,
        group_size=group,
    )


def _check_awq(parts: _Parts, declared: Declaration, versions: tuple[str, ...]) -> None:
    version = str(declared.setting("version", "format", "packing_format") or "").lower()
    bits = declared.count("bits", "w_bit")
    known = declared.method in ("", "awq", "auto-round", "intel/auto-round")
    if not known or version not in versions or bits not in (None, 4):
        raise unread(
            parts.name,
            f"{parts.qweight.name} {list(parts.qweight.shape)} with method {declared.method!r}, version {version!r}, "
            f"bits {bits}",
            "AWQ of 4 bits in the layout that its configuration names: gemm [K, N / 8] or gemv [N, K / 8]",
        )


def _groups_in_words(group: int, columns: int) -> str:
    return "a scale for each row" if group >= columns else f"groups of {group}"


def _misfit(parts: _Parts) -> Any:
    sizes = [part for part in (parts.qweight, parts.scales, parts.qzeros, parts.g_idx) if part is not None]
    received = ", ".join(f"{part.name.rpartition('.')[2]} {list(part.shape)}" for part in sizes)
    return unusable(parts.name, received, _ALLOWED)
