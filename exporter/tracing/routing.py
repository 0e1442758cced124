"""Routes a transformers model's attention, masks and experts through this package, by its registration points.

A model that spells its attention out is given masks of ours under the names of transformers' own implementations while
it is called, and gets the former ones back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.moe import ExpertsInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.tracing.experts import routed_experts
from jisu.exporter.tracing.operators import attention

ATTENTION = "jisu"
# transformers' name for attention that each model spells out itself.
SPELLED_OUT = "eager"
# Names under which a model that cannot be routed may look for its masks, and whether those are added to the scores.
_STOCK_MASKS = {SPELLED_OUT: True, "sdpa": False}
# Values of these arguments change nothing here: dropout is off, the mask already holds windows and causality.
_KNOWN = frozenset({"dropout", "is_causal", "sliding_window", "position_ids", "use_cache", "softcap", "scaling"})


def route(model: PreTrainedModel, implementation: str) -> None:
    """Let attention, where the model asks for it, and experts come from this package from now on."""
    AttentionInterface.register(ATTENTION, attend)
    ExpertsInterface.register(ATTENTION, routed_experts)
    with quiet_transformers():
        if model.config._attn_implementation != implementation:
            model.set_attn_implementation(implementation)
        if _experts(model) != ATTENTION:
            model.set_experts_implementation(ATTENTION)


@contextlib.contextmanager
def routed(
    model: PreTrainedModel, implementation: str, *, past_length: Tensor | None = None, reads_padding: bool = False
) -> Iterator[None]:
    """Route the model through this package for one call, then restore its own choice.

    Args:
        implementation: `ATTENTION` or `SPELLED_OUT`.
        past_length: int64 [B], where each row's new tokens begin; None for the beginning.
        reads_padding: masks leave out what the model says is padding, which tokens of a text behind a state have none
            of.
    """
    attention_before, experts_before = _attention_of(model.config), _experts(model)
    masks_before = {name: ALL_MASK_ATTENTION_FUNCTIONS[name] for name in _STOCK_MASKS}
    try:
        if model.config._attn_implementation != implementation or experts_before != ATTENTION:
            route(model, implementation)
        AttentionMaskInterface.register(
            ATTENTION, _mask_function(past_length, additive=False, reads_padding=reads_padding)
        )
        if implementation == SPELLED_OUT:
            for name, additive in _STOCK_MASKS.items():
                function = _mask_function(past_length, additive=additive, reads_padding=reads_padding)
                AttentionMaskInterface.register(name, function)
        yield
    finally:
        for name, function in masks_before.items():
            AttentionMaskInterface.register(name, function)
        with quiet_transformers():
            if _attention_of(model.config) != attention_before:
                model.set_attn_implementation(attention_before)
            if experts_before is not None and _experts(model) != experts_before:
                model.set_experts_implementation(experts_before)


@contextlib.contextmanager
def routed_by_us(model: PreTrainedModel) -> Iterator[None]:
    """Compute the experts of a model by `routed_experts`, and restore its own choice at the end."""
    before = _experts(model)
    ExpertsInterface.register(ATTENTION, routed_experts)
    with quiet_transformers():
        model.set_experts_implementation(ATTENTION)
    try:
        yield
    finally:
        with quiet_transformers():
            if before is None:
                model.config._experts_implementation = None
            else:
                model.set_experts_implementation(before)


def asks_for_attention(model: PreTrainedModel, call: Callable[[], Any]) -> bool:
    """Whether the model asks transformers' interface for an attention that `attend` knows, found out by listening.

    Others spell it out in their own forward, and what `attend` does not know the model's own function does: slower in
    the graph, and as right.
    """
    calls = []

    def listen(*arguments: Any, **options: Any) -> tuple[Tensor, None]:
        calls.append(not _unknown(options))
        return attend(*arguments, **options)

    with torch.inference_mode(), contextlib.suppress(Exception), routed(model, ATTENTION):
        AttentionInterface.register(ATTENTION, listen)
        call()
    AttentionInterface.register(ATTENTION, attend)
    return bool(calls) and all(calls)


def _unknown(arguments: dict[str, Any]) -> list[str]:
    """Tensors that `attend` has no place for."""
    return sorted(name for name, value in arguments.items() if torch.is_tensor(value) and name not in _KNOWN)


def _attention_of(config: Any) -> dict[str, Any]:
    """The implementations that a configuration and its parts name, which may differ, as transformers takes them."""
    parts = {name: getattr(config, name, None) for name in config.sub_configs}
    return {
        "": config._attn_implementation,
        **{name: _attention_of(part) for name, part in parts.items() if part is not None},
    }


def _experts(model: PreTrainedModel) -> str | None:
    return getattr(model.config, "_experts_implementation", None)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: [B, H, T, D] in, [B, T, H, Dv] out."""
    if unknown := _unknown(arguments):
        raise InputError(
            f"The attention of {type(module).__name__} has an argument that cannot be exported",
            received=", ".join(unknown),
            allowed="query, key, value, mask, scaling and softcap",
            fix="Choose a model whose attention does not use it.",
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = attention(query, key, value, attention_mask, scale=scale, softcap=softcap or 0.0)
    return output.transpose(1, 2), None


def _mask_function(past_length: Tensor | None, *, additive: bool, reads_padding: bool = False) -> Callable[..., Tensor]:
    """A mask function of transformers for rows whose new tokens begin at ``past_length``."""

    def mask(*, dtype: torch.dtype = torch.float32, attention_mask: Tensor | None = None, **arguments: Any) -> Tensor:
        seen = _mask(past_length, **arguments)
        if reads_padding and attention_mask is not None:
            seen = seen & attention_mask.to(torch.bool)[:, None, None, :]
        return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype) if additive else seen

    return mask


def _mask(
    past_length: Tensor | None,
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Tensor | int,
    mask_function: Callable[..., Tensor],
    **_: Any,
) -> Tensor:
    """Evaluate the model's own mask rule at each row's positions: bool [B, 1, T, capacity], True where a key is seen.

    Keys beyond a row's length are never seen, since causality excludes every position after the query's. Whatever
    offset a model computed from the cache's length is not used: the rows' own lengths are.
    """
    offset = torch.as_tensor(q_offset if past_length is None else past_length).reshape(-1)
    device = offset.device
    batch = torch.arange(batch_size, device=device)[:, None, None, None]
    head = torch.zeros((1, 1, 1, 1), dtype=torch.int64, device=device)
    query = offset[:, None, None, None] + torch.arange(q_length, device=device)[None, None, :, None]
    key = torch.arange(kv_length, device=device)[None, None, None, :]
    return mask_function(batch, head, query, key).expand(batch_size, -1, q_length, kv_length)
