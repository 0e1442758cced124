"""Gives a layer other numbers for a while, and its own ones back.

A weight of two bytes a number, which is widened when its layer is called, cannot hold them: it then has other memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_HALF_BYTES = 2


class OwnValues:
    """What a weight held when this was made, of any shape."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight
        self._memory = weight.data
        self._copy = None if _is_half(weight) else weight.detach().clone()

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


def _is_half(weight: torch.Tensor) -> bool:
    return weight.element_size() == _HALF_BYTES
