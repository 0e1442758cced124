"""A weight whose stored form is quantized: what it was made of, and its values in float32 when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.quantized.table import unusable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    Floats = npt.NDArray[np.float32]

_PIECE = 1 << 21  # elements dequantized at once: 8 MB of float32


@dataclass(frozen=True, kw_only=True)
class Integers:
    """A matrix [N, K] of integers: w = (code - zero point) * scale, both of the column's group.

    Attributes:
        codes: uint8 [N, K], each 0..2**bits-1.
        scales: float32 [N, groups].
        zero_points: uint8 [N, groups].
        bits: of a code.
        group_size: neighbouring columns that share a scale.
        groups: int64 [K], the group of each column, where groups are not neighbours; None where they are.
    """

    codes: npt.NDArray[np.uint8]
    scales: Floats
    zero_points: npt.NDArray[np.uint8]
    bits: int
    group_size: int
    groups: npt.NDArray[np.int64] | None = None

    def column_groups(self) -> npt.NDArray[np.int64]:
        """The group of each column, int64 [K]."""
        import numpy as np

        if self.groups is not None:
            return self.groups
        return np.arange(self.codes.shape[1], dtype=np.int64) // self.group_size

    def dequantize(self) -> Floats:
        """float32 [N, K]."""
        import numpy as np

        rows, columns = self.codes.shape
        groups = self.column_groups()
        values = np.empty((rows, columns), np.float32)
        step = max(1, _PIECE // max(columns, 1))
        for first in range(0, rows, step):
            part = slice(first, first + step)
            piece = values[part]
            np.subtract(self.codes[part], self.zero_points[part][:, groups], out=piece, dtype=np.float32)
            piece *= self.scales[part][:, groups]
        return values


@dataclass(frozen=True, kw_only=True)
class QuantizedWeight:
    """A weight of the model under its stored name; indexing it reads and dequantizes what it is stored as.

    Attributes:
        name: what it would be called if it were stored plainly.
        shape: of its values.
        form: format, bits, groups and symmetry in words, for records.
        parts: stored tensor -> what it is ("codes", "scales", ...).
        read: the values in float32.
        integers: the same as integers, for formats that are some; None for others.
        bits: of one value as it is stored.
        code_bits: of the integers, where there are any; more than ``bits`` where they stand for small floats.
        group_size: columns that share a scale, of the integers.
        transposed: the values are read as [K, N], for layers that store them so.
    """

    name: str
    shape: tuple[int, ...]
    form: str
    parts: Mapping[str, str]
    bits: int
    read: Callable[[], Floats] | None = None
    integers: Callable[[], Integers] | None = None
    code_bits: int | None = None
    group_size: int | None = None
    transposed: bool = False

    def __getitem__(self, index: Any) -> torch.Tensor:
        import numpy as np
        import torch

        assert self.read is not None or self.integers is not None, "a quantized weight that nothing reads"
        try:
            values = self.read() if self.read is not None else self.integers().dequantize()  # type: ignore[misc]
        except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
            # Parts that fit each other by every rule that is checked, and still do not.
            raise unusable(self.name, f"parts that do not fit: {error}", "parts as its format has them") from error
        if tuple(values.shape) != (self.shape[::-1] if self.transposed else self.shape):
            raise unusable(self.name, f"parts for {list(values.shape)}", f"parts for {list(self.shape)}")
        return torch.from_numpy(np.ascontiguousarray(values.T) if self.transposed else values)[index]
