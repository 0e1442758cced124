"""Attention of a decoder that reads a source: relative biases of each row's own past, and masks.

Models that ask transformers for their attention are given this one for the time of a call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, bidirectional_mask_function

from jisu.exporter.tracing.routing import SPELLED_OUT, attend
from jisu.exporter.tracing.two_caches import BufferLayer

ATTENTION = "jisu-encoder-decoder"


class BiasLookup:
    """Attention for one call of a decoder that is being traced, with relative biases for each row's own past."""

    def __init__(self, buffers: list[BufferLayer], past_length: Tensor, capacity: int) -> None:
        self._buffers = buffers
        self._past_length = past_length
        self._capacity = capacity
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        position_bias: Tensor | None = None,
        **arguments: Any,
    ) -> tuple[Tensor, None]:
        if position_bias is not None and any(buffer.keys is key for buffer in self._buffers):
            position_bias = self._of_rows(position_bias, query.shape[2])
        return attend_biased(module, query, key, value, attention_mask, position_bias, **arguments)

    def _of_rows(self, bias: Tensor, new: int) -> Tensor:
        """[1, H, T, capacity], whose first query stands in the last place -> [B, H, T, capacity].

        Distance d lies at place capacity - 1 - d of the first query's biases. Keys behind a query, which no mask lets
        it see, get those of distance 0.
        """
        known = self._rows.get(id(bias))
        if known is not None:
            return known[1]
        place = torch.arange(self._capacity, device=bias.device)
        query = self._past_length[:, None] + torch.arange(new, device=bias.device)
        distance = (query[:, :, None] - place).clamp(min=0)
        rows = bias[0, :, 0][:, (self._capacity - 1 - distance).clamp(min=0)].transpose(0, 1)
        # The biases are kept with them: a number that stands for an object is another's once the object is gone.
        self._rows[id(bias)] = (bias, rows)
        return rows


def attend_biased(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    position_bias: Tensor | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function; relative biases and the mask become one tensor that is added to the scores."""
    if position_bias is not None:
        seen = attention_mask
        attention_mask = position_bias
        if seen is not None:
            attention_mask = torch.where(seen, position_bias, torch.finfo(position_bias.dtype).min)
    return attend(module, query, key, value, attention_mask, **arguments)


def _mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Tensor | int,
    mask_function: Callable[..., Tensor],
    attention_mask: Tensor | None = None,
    device: Any = None,
    **_: Any,
) -> Tensor:
    """The model's own mask rule at each row's positions, and the source's padding: True where a key is seen.

    bool [B, 1, T, keys]; ONNX Runtime's operator (1.32) does not repeat one row of a mask for every query. The
    decoder's own keys behind a row's length need no padding mask: causality excludes every position after the query's.
    """
    batch = torch.arange(batch_size, device=device)[:, None, None, None]
    key = torch.arange(kv_length, device=device)[None, None, None, :]
    shape = (batch_size, -1, q_length, kv_length)
    seen = None
    if attention_mask is not None and not isinstance(q_offset, Tensor):
        seen = attention_mask.to(torch.bool)[:, None, None, :]
    everywhere: Callable[..., Any] = bidirectional_mask_function
    if mask_function is everywhere:
        seen = (key >= 0) if seen is None else seen
        return seen.expand(shape)
    offset = torch.as_tensor(q_offset, device=device).reshape(-1)[:, None, None, None]
    query = offset + torch.arange(q_length, device=device)[None, None, :, None]
    head = torch.zeros((1, 1, 1, 1), dtype=torch.int64, device=device)
    allowed = mask_function(batch, head, query, key).expand(shape)
    return allowed if seen is None else allowed & seen


def _additive_mask(*, dtype: torch.dtype, **arguments: Any) -> Tensor:
    """`_mask` for attention that is spelled out in the model: 0 where a key is seen, else the lowest number."""
    return torch.where(_mask(**arguments), 0.0, torch.finfo(dtype).min).to(dtype)


@contextlib.contextmanager
def attention_of_ours(
    model: PreTrainedModel, implementation: str, attention_function: Callable[..., Any]
) -> Iterator[None]:
    """Route the model's attention and masks through this file for one call, then restore its own choice."""
    before, spelled_out = model.config._attn_implementation, ALL_MASK_ATTENTION_FUNCTIONS[SPELLED_OUT]
    if implementation == SPELLED_OUT:
        AttentionMaskInterface.register(SPELLED_OUT, _additive_mask)
    else:
        AttentionInterface.register(ATTENTION, attention_function)
        AttentionMaskInterface.register(ATTENTION, _mask)
    try:
        if before != implementation:
            model.set_attn_implementation(implementation)
        yield
    finally:
        AttentionMaskInterface.register(SPELLED_OUT, spelled_out)
        if before != implementation:
            model.set_attn_implementation(before)
