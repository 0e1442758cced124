"""Gives a layer other numbers for a while, and its own ones back.

A weight of two bytes a number, which is widened when its layer is called, cannot hold them: it then has other memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from jisu.calibration.weights.formats import BlockQuantized

_HALF_BYTES = 2


class OwnValues:
    """What a weight held when this was made, of any shape."""

    def __init__(
        self, weight: torch.Tensor, *, put_aside: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> None:
        """
        Args:
            put_aside: copies a tensor to where it takes no memory; None to copy it in memory.
        """
        self._weight = weight
        self._memory = weight.data
        self._copy: torch.Tensor | None = None
        if not _is_half(weight):
            self._copy = weight.detach().clone() if put_aside is None else put_aside(weight.detach())

    def restore(self) -> None:
        if self._copy is None:
            self._weight.data = self._memory
        else:
            self._weight.data.copy_(self._copy)


def set_values(weight: torch.Tensor, values: torch.Tensor) -> None:
    """Let a weight hold float32 values of its shape, in its own memory, which views share, where that can hold them."""
    if _is_half(weight):
        weight.data = values
    else:
        weight.data.copy_(values)


def set_rounded(weight: torch.Tensor, rounded: BlockQuantized) -> None:
    """Let a weight hold what a rounded one stands for, a few rows at a time where its own memory can hold it."""
    import torch

    if _is_half(weight):
        weight.data = torch.from_numpy(rounded.dequantize())
        return
    start = 0
    for piece in rounded.dequantize_pieces():
        weight.data[start : start + len(piece)] = torch.from_numpy(piece)
        start += len(piece)


def _is_half(weight: torch.Tensor) -> bool:
    return weight.element_size() == _HALF_BYTES
