"""Small codes in larger words -> one code in each byte.

Words are little-endian and the first code lies in the lowest bits, in every format here: three bits go on from one
word to the next, so that 32 codes take three words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Codes = npt.NDArray[np.uint8]


def unpack(words: npt.NDArray[Any], bits: int) -> Codes:
    """Codes packed without gaps along the last axis: [..., W] words -> uint8 [..., W * word bits / bits]."""
    import numpy as np

    raw = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return np.asarray(raw, np.uint8)
    if bits in (1, 2, 4):
        per_byte = 8 // bits
        codes = np.empty((*raw.shape, per_byte), np.uint8)
        for place in range(per_byte):
            np.bitwise_and(raw >> np.uint8(bits * place), np.uint8((1 << bits) - 1), out=codes[..., place])
        return codes.reshape(*raw.shape[:-1], raw.shape[-1] * per_byte)
    whole = raw.shape[-1] * 8 // bits * bits
    flags = np.unpackbits(raw, axis=-1, bitorder="little")[..., :whole]
    packed: Codes = np.packbits(flags.reshape(*raw.shape[:-1], -1, bits), axis=-1, bitorder="little")[..., 0]
    return packed


def unpack_with_gaps(words: npt.NDArray[Any], bits: int) -> Codes:
    """Codes that never cross from one 32-bit word to the next: [..., W] -> uint8 [..., W * (32 // bits)]."""
    import numpy as np

    plain = np.ascontiguousarray(words).view(np.uint32)
    shifts = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
    codes = ((plain[..., None] >> shifts) & np.uint32((1 << bits) - 1)).astype(np.uint8)
    unpacked: Codes = codes.reshape(*plain.shape[:-1], -1)
    return unpacked


def unpack_columns(words: npt.NDArray[Any], bits: int) -> Codes:
    """Codes packed along the first of two axes, as columns: [W, N] words -> uint8 [N, codes]."""
    import numpy as np

    return unpack(np.ascontiguousarray(words.T), bits)
