"""Any transformers causal language model behind the traced interface.

Nothing here knows an architecture: attention and masks come through transformers' own registration points, the cache is
a `Cache` that hands tensors through, and the shapes of the state are read off one short forward call.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from exporter.errors import InputError
from exporter.signature import CAPACITY, StateItem
from exporter.sources.quiet import quiet_transformers
from exporter.tracing.operators import attention, scatter_cache

ATTENTION = "jisu"
# transformers' name for attention that each model spells out itself.
SPELLED_OUT = "eager"
# Values of these arguments change nothing here: dropout is off, the mask already holds windows and causality.
_IGNORED_ARGUMENTS = frozenset({"dropout", "is_causal", "sliding_window", "position_ids", "use_cache"})


class CausalLM(nn.Module):
    """A transformers model as ``forward(input_ids, past_length, state) -> (logits, state)``."""

    weight_prefix = "model."

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        # Read off now, while the model still has an attention of its own to run with.
        self._state_spec = self._observed_state()
        self._attention = ATTENTION if self._asks_for_attention() else SPELLED_OUT

    def state_spec(self) -> list[StateItem]:
        """Name, kind, dims and dtype of each tensor that the model carries from call to call."""
        return list(self._state_spec)

    def _observed_state(self) -> list[StateItem]:
        """Run two tokens through the model and describe what its cache then holds, layer by layer."""
        with torch.inference_mode():
            output = self.model(input_ids=torch.tensor([[0, 1]]), use_cache=True)
        cache = getattr(output, "past_key_values", None)
        layers = getattr(cache, "layers", None)
        if not layers or any(getattr(layer, "keys", None) is None for layer in layers):
            kinds = sorted({type(layer).__name__ for layer in layers or [cache]})
            raise InputError(
                f"The state of {type(self.model).__name__} cannot be carried from token to token",
                received=f"a cache of {', '.join(kinds)}",
                allowed="key/value caches",
                fix="Use a decoder whose layers keep keys and values.",
            )
        return [
            (f"{index}.{role}", "kv", ("B", tensor.shape[1], CAPACITY, tensor.shape[3]), "float32")
            for index, layer in enumerate(layers)
            for role, tensor in (("key", layer.keys), ("value", layer.values))
        ]

    def _asks_for_attention(self) -> bool:
        """Whether the model asks transformers' interface for its attention, found out by listening to two tokens.

        Others spell it out in their own forward: slower in the graph, and as right.
        """
        asked = []

        def listen(*arguments: Any, **options: Any) -> tuple[Tensor, None]:
            asked.append(True)
            return attend(*arguments, **options)

        # An attention that this file refuses is asked for all the same, and refused with its reason when traced.
        ours = _attention_of_ours(self.model, ATTENTION, attention_function=listen)
        with quiet_transformers(), torch.inference_mode(), contextlib.suppress(Exception), ours:
            self.model(input_ids=torch.tensor([[0, 1]]), use_cache=False)
        return bool(asked)

    def route_attention(self) -> None:
        """Keep the model's attention routed through this file, which saves the switch at every call.

        A model that spells its attention out is switched at each call: its masks are registered for all such models.
        """
        if self._attention == ATTENTION:
            _route(self.model, ATTENTION)

    def forward(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Append tokens to the state.

        Args:
            input_ids: int64 [B, T], rows padded on the right.
            past_length: int64 [B].
            state: key and value buffers, each [B, Hkv, capacity, D], in the order of `state_spec`.

        Returns:
            logits [B, T, V] and the buffers with the new keys and values written at ``past_length``.
        """
        position_ids = past_length[:, None] + torch.arange(input_ids.shape[1], device=input_ids.device)[None, :]
        layers = [_BufferLayer(key, value, past_length) for key, value in zip(state[::2], state[1::2], strict=True)]
        arguments: dict[str, Any] = {"input_ids": input_ids, "past_key_values": Cache(layers=list(layers))}
        accepted = inspect.signature(self.model.forward).parameters
        if "position_ids" in accepted:
            arguments["position_ids"] = position_ids
        if self._attention == SPELLED_OUT:
            # Such models read positions and biases off the padding mask: a one for every token seen so far.
            key = torch.arange(state[0].shape[2], device=input_ids.device)[None, :]
            arguments["attention_mask"] = (key < past_length[:, None] + input_ids.shape[1]).to(torch.int64)
        with _attention_of_ours(self.model, self._attention):
            output = self.model(**arguments, use_cache=True)
        return output.logits, [tensor for layer in layers for tensor in (layer.keys, layer.values)]


class _BufferLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's key/value buffers of fixed capacity; writes go to each row's own length."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, past_length: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.past_length = past_length
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise AssertionError("the buffers are there from the start")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.keys = scatter_cache(self.keys, key_states, self.past_length)
        self.values = scatter_cache(self.values, value_states, self.past_length)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_seq_length(self) -> Tensor:  # type: ignore[override]  # one length per row, which `_mask` adds up itself
        return self.past_length

    def get_max_length(self) -> int:
        return -1


def _mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Tensor | int,
    mask_function: Callable[..., Tensor],
    **_: Any,
) -> Tensor:
    """Evaluate the model's own mask rule at each row's positions: bool [B, 1, T, capacity], True where a key is seen.

    Keys beyond a row's length are never seen, since causality excludes every position after the query's.
    """
    offset = torch.as_tensor(q_offset).reshape(-1)  # a plain number when the cache is not ours
    device = offset.device
    batch = torch.arange(batch_size, device=device)[:, None, None, None]
    head = torch.zeros((1, 1, 1, 1), dtype=torch.int64, device=device)
    query = offset[:, None, None, None] + torch.arange(q_length, device=device)[None, None, :, None]
    key = torch.arange(kv_length, device=device)[None, None, None, :]
    return mask_function(batch, head, query, key).expand(batch_size, -1, q_length, kv_length)


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
    unknown = sorted(
        name for name, given in arguments.items() if torch.is_tensor(given) and name not in _IGNORED_ARGUMENTS
    )
    if unknown:
        raise InputError(
            f"The attention of {type(module).__name__} takes an argument that its trace would drop",
            received=", ".join(unknown),
            allowed="query, key, value, mask, scaling and softcap",
            fix="Use a model without it.",
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = attention(query, key, value, attention_mask, scale=scale, softcap=softcap or 0.0)
    return output.transpose(1, 2), None


def _additive_mask(*, dtype: torch.dtype, **arguments: Any) -> Tensor:
    """`_mask` for attention that is spelled out in the model: 0 where a key is seen, else the lowest number."""
    seen = _mask(**arguments)
    return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)


def _route(model: PreTrainedModel, implementation: str, attention_function: Callable[..., Any] = attend) -> None:
    """Let masks, and attention where the model asks for it, come from this file."""
    if implementation == SPELLED_OUT:
        AttentionMaskInterface.register(SPELLED_OUT, _additive_mask)
    else:
        AttentionInterface.register(ATTENTION, attention_function)
        AttentionMaskInterface.register(ATTENTION, _mask)
    if model.config._attn_implementation != implementation:
        model.set_attn_implementation(implementation)


@contextlib.contextmanager
def _attention_of_ours(
    model: PreTrainedModel, implementation: str, *, attention_function: Callable[..., Any] = attend
) -> Iterator[None]:
    """Route the model's attention and masks through this file for one call, then restore its own choice."""
    before, spelled_out = model.config._attn_implementation, ALL_MASK_ATTENTION_FUNCTIONS[SPELLED_OUT]
    if before == ATTENTION or spelled_out is _additive_mask:
        yield
        return
    try:
        _route(model, implementation, attention_function)
        yield
    finally:
        AttentionMaskInterface.register(SPELLED_OUT, spelled_out)
        if model.config._attn_implementation != before:
            model.set_attn_implementation(before)
