"""Positions that differ from row to row, for models that know one list of positions for all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


@contextlib.contextmanager
def rows_of_positions(model: nn.Module) -> Iterator[None]:
    """Let embeddings of positions that are [B, T] already stay [B, T, C].

    Models that expect positions [T] put an axis of one before them, which would go through all layers.
    """

    def drop(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
        return output[0] if output.dim() == 4 and output.shape[0] == 1 else None

    hooks = [child.register_forward_hook(drop) for child in model.modules() if isinstance(child, nn.Embedding)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
