"""torch's Transformer layers with the mask that they are given.

`nn.TransformerEncoder` and `nn.TransformerDecoder` compare a mask's numbers with those of a causal one to choose a
faster kernel, unless ``is_causal`` tells. A trace has no numbers to compare; it keeps the mask, which says the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch.nn.modules.transformer as layers
from torch import Tensor


@contextlib.contextmanager
def explicit_masks() -> Iterator[None]:
    """Let masks be traced as they are while the block runs (torch 2.13 asks `_detect_is_causal_mask`)."""
    own = layers._detect_is_causal_mask
    layers._detect_is_causal_mask = _as_told
    try:
        yield
    finally:
        layers._detect_is_causal_mask = own


def _as_told(mask: Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:  # noqa: FBT001
    return bool(is_causal)
