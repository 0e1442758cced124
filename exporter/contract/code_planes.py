"""How codes of 5, 6 and 7 bits lie in a file: in planes of 4, 2 and 1 bits, packed into bytes row by row.

The upper four bits of every code lie in one plane, the next ones in another: byte i of a row holds columns i,
i + width, i + 2 * width ... from its lowest bits on. Codes are those of a kernel, 8 bits that end in zeros.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Bits of a code -> bits of each of its planes, the upper ones first.
PLANES = {5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}
# Key of a node's metadata in the file: the bits of the codes that it puts together from planes.
UNPACKS = "jisu.unpacks"
# What the name of a plane ends with, before its bits.
PLANE = ".plane"
_BYTE = 8
# The number behind it is of a piece of rows.
_NAME = re.compile(rf"{re.escape(PLANE)}([124])(\.\d+)?")


def plane_width(name: str) -> int | None:
    """Bits of each code in the constant of this name; None of a constant that is no plane."""
    last = name[name.rfind(PLANE) :] if PLANE in name else ""
    match = _NAME.fullmatch(last)
    return None if match is None else int(match[1])


def can_store(features: int) -> bool:
    """Whether every plane of a row with so many codes has whole bytes."""
    return features % _BYTE == 0


def pack_plane(codes: npt.NDArray[np.uint8], *, lowest: int, width: int) -> npt.NDArray[np.uint8]:
    """``width`` bits of each code from bit ``lowest`` on, uint8 [rows, features] -> [rows, features * width / 8]."""
    import numpy as np

    rows, features = codes.shape
    parts = _BYTE // width
    packed: npt.NDArray[np.uint8] = np.zeros((rows, features // parts), np.uint8)
    for number in range(parts):
        columns = codes[:, number * packed.shape[1] : (number + 1) * packed.shape[1]]
        packed |= ((columns >> np.uint8(lowest)) & np.uint8((1 << width) - 1)) << np.uint8(number * width)
    return packed


def join_planes(
    planes: Mapping[int, npt.NDArray[np.uint8]], *, bits: int, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """The codes of planes by their bits, uint8 [rows, features * width / 8] each -> uint8 [rows, features].

    Args:
        out: zeros that the codes are written into; new memory when None.

    Raises:
        KeyError: a plane is missing.
        ValueError: planes of other sizes than each other's.
    """
    import numpy as np

    first = planes[PLANES[bits][0]]
    rows, features = len(first), first.shape[1] * (_BYTE // PLANES[bits][0])
    codes = np.zeros((rows, features), np.uint8) if out is None else out
    above = 0
    for width in PLANES[bits]:
        plane, parts = planes[width], _BYTE // width
        if plane.shape != (rows, features // parts):
            raise ValueError(f"a plane of {width} bits is {plane.shape}, {(rows, features // parts)} are needed")
        for number in range(parts):
            columns = codes[:, number * plane.shape[1] : (number + 1) * plane.shape[1]]
            # Up to the highest bits, which drops the neighbours, then down below the bits of the other planes.
            columns |= (
                (plane << np.uint8(_BYTE - width * (number + 1)))
                >> np.uint8(_BYTE - width)
                << np.uint8(_BYTE - width - above)
            )
        above += width
    return codes
