"""ModelOpt's 4-bit integers: two output features share a byte, [N / 2, K], with a float scale for each group.

Its AWQ also multiplies the input of a layer, channel by channel, by ``pre_quant_scale``, which is part of the weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.table import FLOATS, Stored, Table, unusable
from jisu.exporter.sources.quantized.weight import Integers, QuantizedWeight

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MIDDLE = 8


def find_modelopt(table: Table, declared: Declaration) -> Iterator[QuantizedWeight]:
    """Every weight of bytes with a float scale for each group.

    Raises:
        InputError: scales that fit no such weight.
    """
    for name, codes in table.items():
        scales = table.get(f"{name}_scale")
        if not name.endswith(".weight") or codes.dtype != "uint8" or scales is None or scales.dtype not in FLOATS:
            continue
        if declared.method not in ("", "modelopt"):
            raise unusable(name, f"bytes of the method {declared.method!r}", "packed integers as ModelOpt stores them")
        rows, columns = codes.shape[0] * 2, codes.shape[-1]
        fits = len(codes.shape) == 2 and len(scales.shape) == 2 and scales.shape[0] == rows
        if not fits or columns % scales.shape[1]:
            raise unusable(
                name,
                f"codes of {list(codes.shape)} and scales of {list(scales.shape)}",
                "[N / 2, K] bytes of 4-bit integers and [N, groups] scales",
            )
        group = columns // scales.shape[1]
        yield QuantizedWeight(
            name=name,
            shape=(rows, columns),
            form=f"ModelOpt, 4 bits, groups of {group}, symmetric",
            parts={name: "codes", scales.name: "scales"},
            bits=4,
            code_bits=4,
            group_size=group,
            integers=partial(_integers, codes, scales, group),
        )


def _integers(codes: Stored, scales: Stored, group: int) -> Integers:
    import numpy as np

    packed = codes.integers()
    rows, columns = packed.shape
    unpacked = np.empty((rows, 2, columns), np.uint8)
    # Two's complement in four bits: with the top bit turned round it counts from -8.
    unpacked[:, 0] = (packed & 15) ^ _MIDDLE
    unpacked[:, 1] = (packed >> 4) ^ _MIDDLE
    factors = scales.floats()
    return Integers(
        codes=unpacked.reshape(2 * rows, columns),
        scales=factors,
        zero_points=np.full(factors.shape, _MIDDLE, np.uint8),
        bits=4,
        group_size=group,
    )


def multiply_inputs(values: npt.NDArray[np.float32], channels: Stored) -> npt.NDArray[np.float32]:
    """The weight that stands for multiplying the inputs first."""
    factors = channels.floats().reshape(-1)
    if factors.shape != (values.shape[-1],):
        raise unusable(channels.name, f"{factors.shape[0]} factors", f"one for each of {values.shape[-1]} inputs")
    values *= factors
    return values
