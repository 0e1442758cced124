"""The operators that a traced model uses by name: an ONNX node while exporting, the same arithmetic in torch otherwise.

The eager half lets one adapter both be traced and be run; its numbers are compared with the source model's own forward
by the gate, so that an error in either half shows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

OPSET = 24


def scatter_cache(past: Tensor, new: Tensor, past_length: Tensor) -> Tensor:
    """Write each row's new keys or values into its buffer, starting at the row's own length.

    Args:
        past: [B, Hkv, capacity, D].
        new: [B, Hkv, T, D].
        past_length: int64 [B], each plus T at most capacity.

    Returns:
        [B, Hkv, capacity, D]; ONNX `TensorScatter`-24 in linear mode on axis 2. Outside of a trace it is ``past``
        itself, written in place: a copy of every layer's buffer would take the memory of another state.
    """
    if torch.compiler.is_exporting():
        return torch.onnx.ops.symbolic(
            "TensorScatter",
            (past, new, past_length),
            {"axis": 2, "mode": "linear"},
            dtype=past.dtype,
            shape=past.shape,
            version=OPSET,
        )
    positions = past_length[:, None] + torch.arange(new.shape[2], device=new.device)
    index = positions[:, None, :, None].expand(-1, new.shape[1], -1, new.shape[3])
    return past.scatter_(2, index, new)


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float, softcap: float = 0.0
) -> Tensor:
    """Scaled dot-product attention with grouped key/value heads.

    Args:
        query: [B, H, T, D].
        key: [B, Hkv, capacity, D], Hkv divides H.
        value: [B, Hkv, capacity, Dv].
        mask: bool [B or 1, 1 or H, T, capacity], True where a key is seen; a float mask is added to the scores.
        scale: factor on the scores.
        softcap: bound c of c * tanh(scores / c), 0 for none.

    Returns:
        [B, H, T, Dv]; ONNX `Attention`-24 with an explicit mask. `is_causal` is never used: its alignment differs
        between opsets and runtimes.
    """
    if torch.compiler.is_exporting():
        return torch.onnx.ops.symbolic(
            "Attention",
            (query, key, value, mask),
            {"scale": float(scale), "softcap": float(softcap)},
            dtype=query.dtype,
            shape=(*query.shape[:3], value.shape[3]),
            version=OPSET,
        )
    if not softcap:
        return functional.scaled_dot_product_attention(query, key, value, mask, scale=scale, enable_gqa=True)
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * scale
    scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, dim=-1) @ value.repeat_interleave(groups, 1)
