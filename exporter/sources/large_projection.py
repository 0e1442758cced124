"""An output projection read some rows at a time, so that not all of a large table is in memory for one matmul.

The numbers are those of one matmul: each output is the sum of the same products, in the order that torch's kernel takes
whatever the number of rows. Never active while a module is traced, which would see the pieces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.half_width import float32_bytes

if TYPE_CHECKING:
    import torch

    from jisu.exporter.sources.paged_weights import PagedWeights

# Of the rows of a piece, which are whole groups: kernels take so many at once.
PIECE_BYTES = 32 << 20
_GROUP = 64


@contextlib.contextmanager
def read_in_pieces(module: Any, paged: PagedWeights | None) -> Iterator[None]:
    """Let a transformers model's output projection be read piece by piece while the block runs.

    Args:
        paged: the file that its weights lie in; None where they are in memory, and nothing is changed.
    """
    from torch import nn

    head: Any = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    is_plain = type(head) is nn.Linear and "forward" not in vars(head)
    if paged is None or not is_plain or float32_bytes([head.weight]) <= PIECE_BYTES:
        yield
        return

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        rows, features = head.weight.shape
        step = max(1, PIECE_BYTES // (hidden.element_size() * features * _GROUP)) * _GROUP
        logits = hidden.new_empty((*hidden.shape[:-1], rows))
        for start in range(0, rows, step):
            weight = head.weight[start : start + step]
            bias = None if head.bias is None else head.bias[start : start + step]
            logits[..., start : start + step] = nn.functional.linear(hidden, weight.to(hidden.dtype), bias)
            paged.count(weight.nbytes)
        return logits

    head.forward = forward
    try:
        yield
    finally:
        del head.forward
