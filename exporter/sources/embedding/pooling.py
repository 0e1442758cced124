"""From a vector for each token to one for the text: the ways of sentence-transformers, of padded rows.

Each of them sees only the tokens that a mask says are some. Source of the names and the formulas: the documentation of
sentence-transformers' ``Pooling``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from jisu.exporter.sources.embedding.description import PoolingMode

_LEAST = 1e-9  # a sum of weights, below which there are no tokens


def pool(states: Tensor, mask: Tensor, mode: PoolingMode, *, tokens: Tensor | None = None) -> Tensor:
    """One vector for each row.

    Args:
        states: float [B, T, C].
        mask: int64 [B, T], 1 for a token that counts; the tokens of a row are neighbours.
        mode: ``cls`` the first token, ``lasttoken`` the last one, ``max`` the largest number of each dimension,
            ``mean`` sum / n, ``mean_sqrt_len_tokens`` sum / sqrt(n), ``weightedmean`` the mean weighted by the position
            of a token in its text, counted from 1.
        tokens: int64 [B, T], 1 for all tokens of the text, those that do not count included; ``mask`` when None.

    Returns:
        float [B, C].
    """
    seen = mask.to(states.dtype)
    if mode in ("cls", "lasttoken"):
        return _token_at(states, seen, last=mode == "lasttoken")
    if mode == "max":
        return states.masked_fill(mask[:, :, None] == 0, float("-inf")).amax(dim=1)
    if mode == "weightedmean":
        seen = seen * torch.cumsum(seen if tokens is None else tokens.to(states.dtype), dim=1)
    total = (states * seen[:, :, None]).sum(dim=1)
    weight = seen.sum(dim=1, keepdim=True).clamp(min=_LEAST)
    return total / (torch.sqrt(weight) if mode == "mean_sqrt_len_tokens" else weight)


def _token_at(states: Tensor, seen: Tensor, *, last: bool) -> Tensor:
    """The state of the first or the last token that counts, by a sum in which only that token has a weight."""
    count = torch.cumsum(seen, dim=1)
    edge = seen.sum(dim=1, keepdim=True) if last else torch.ones_like(count[:, :1])
    chosen = seen * (count == edge).to(seen.dtype)
    return (states * chosen[:, :, None]).sum(dim=1)
