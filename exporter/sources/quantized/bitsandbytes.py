"""bitsandbytes' 4 bits: an index into 16 values, times the largest magnitude of its block of 64 in flat order.

The magnitudes may be quantized themselves: an index into 256 values, times the magnitude of a block of 256 of them,
plus their mean. The first value of a byte lies in its high half.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.table import Stored, Table, unusable
from jisu.exporter.sources.quantized.weight import QuantizedWeight

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_STATE = ".quant_state.bitsandbytes__"
_TYPES = ("nf4", "fp4")
_PIECE = 1 << 21


@dataclass(frozen=True, kw_only=True)
class _Parts:
    name: str
    codes: Stored
    magnitudes: Stored
    values: Stored
    nested: tuple[Stored, Stored] | None  # magnitudes of the magnitudes, and the values that these index
    shape: tuple[int, ...]
    block: int
    nested_block: int
    mean: float


def find_four_bits(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight with a state of bitsandbytes beside it.

    Raises:
        InputError: a part that is missing, or is not what the state says.
    """
    for name, state in table.items():
        weight, separator, kind = name.partition(_STATE)
        if separator:
            parts = _parts(weight, state, table)
            roles = {parts.codes.name: "codes", name: "format", parts.magnitudes.name: "scales"}
            roles[parts.values.name] = "values of the codes"
            if parts.nested is not None:
                roles |= {one.name: "scales of the scales" for one in parts.nested}
            nested = ", nested" if parts.nested is not None else ""
            yield QuantizedWeight(
                name=weight,
                shape=parts.shape,
                form=f"bitsandbytes {kind}, blocks of {parts.block}{nested}",
                parts=roles,
                bits=4,
                read=partial(_read, parts),
            )


def _parts(weight: str, state: Stored, table: Table) -> _Parts:
    settings = _settings(weight, state)
    shape = settings.get("shape")
    block = settings.get("blocksize")
    sizes_known = isinstance(shape, list) and all(isinstance(size, int) and size > 0 for size in shape)
    if settings.get("quant_type") not in _TYPES or not sizes_known or not isinstance(block, int) or block <= 0:
        raise unusable(weight, f"a state of {settings}", f"the type ({' or '.join(_TYPES)}), shape and block size")
    assert isinstance(shape, list)
    dtypes = {"": "uint8", ".absmax": "", ".quant_map": "float32"}
    is_nested = f"{weight}.nested_absmax" in table or "nested_blocksize" in settings
    if is_nested:
        dtypes |= {".nested_absmax": "float32", ".nested_quant_map": "float32"}
    by_ending: dict[str, Stored] = {}
    for ending, dtype in dtypes.items():
        part = table.get(f"{weight}{ending}")
        expected = dtype or ("uint8" if is_nested else "float32")
        if part is None or part.dtype != expected:
            received = "missing" if part is None else f"of {part.dtype}"
            raise unusable(weight, f"{weight}{ending} {received}", f"{weight}{ending} of {expected}")
        by_ending[ending] = part
    count = prod(shape)
    blocks = -(-count // block)
    sizes = {"": -(-count // 2), ".absmax": blocks, ".quant_map": 16}
    nested_block = settings.get("nested_blocksize") if is_nested else 1
    if is_nested:
        if not isinstance(nested_block, int) or nested_block <= 0:
            raise unusable(weight, f"a nested block size of {nested_block}", "a whole number above 0")
        sizes |= {".nested_absmax": -(-blocks // nested_block), ".nested_quant_map": 256}
    wrong = [
        f"{weight}{ending} {list(by_ending[ending].shape)}"
        for ending, size in sizes.items()
        if prod(by_ending[ending].shape) != size
    ]
    if wrong:
        raise unusable(weight, ", ".join(wrong), f"sizes that fit {shape} in blocks of {block}")
    return _Parts(
        name=weight,
        codes=by_ending[""],
        magnitudes=by_ending[".absmax"],
        values=by_ending[".quant_map"],
        nested=(by_ending[".nested_absmax"], by_ending[".nested_quant_map"]) if is_nested else None,
        shape=tuple(shape),
        block=block,
        nested_block=int(nested_block or 1),
        mean=float(settings.get("nested_offset", 0.0)),
    )


def _settings(weight: str, state: Stored) -> Mapping[str, Any]:
    try:
        settings = json.loads(bytes(state.integers().reshape(-1).tolist()).decode("utf-8"))
    except (ValueError, TypeError) as error:
        raise unusable(weight, f"{state.name}: {error}", "a JSON object in bytes") from error
    if not isinstance(settings, dict):
        raise unusable(weight, f"{state.name} with a {type(settings).__name__}", "a JSON object in bytes")
    return settings


def _read(parts: _Parts) -> npt.NDArray[np.float32]:
    import numpy as np

    magnitudes = _magnitudes(parts)
    table = parts.values.floats()
    packed = parts.codes.integers().reshape(-1)
    count = prod(parts.shape)
    values = np.empty(2 * len(packed), np.float32)
    pairs = values.reshape(-1, 2)
    step = max(1, _PIECE // 2)
    for first in range(0, len(packed), step):
        piece = packed[first : first + step]
        pairs[first : first + step, 0] = table[piece >> np.uint8(4)]
        pairs[first : first + step, 1] = table[piece & np.uint8(15)]
    whole = count // parts.block * parts.block
    values[:whole].reshape(-1, parts.block)[:] *= magnitudes[: whole // parts.block, None]
    values[whole:count] *= magnitudes[-1]
    return values[:count].reshape(parts.shape)


def _magnitudes(parts: _Parts) -> npt.NDArray[np.float32]:
    import numpy as np

    if parts.nested is None:
        return parts.magnitudes.floats().reshape(-1)
    outer, table = (one.floats().reshape(-1) for one in parts.nested)
    codes = parts.magnitudes.integers().reshape(-1)
    spread = np.repeat(outer, parts.nested_block)[: len(codes)]
    magnitudes: npt.NDArray[np.float32] = table[codes] * spread + np.float32(parts.mean)
    return magnitudes
