"""Any transformers model that turns a text into another, as an encoder that runs once and a decoder with a state.

Nothing here knows an architecture. What a decoder reads of its source are the keys and values that its cross-attention
puts into transformers' `EncoderDecoderCache`: the encoder's half computes them once, the decoder's half finds them
there. Positions come from the lengths that this cache states; relative position biases, which models hand to attention,
are looked up again for each row's own past.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, bidirectional_mask_function
from transformers.modeling_outputs import BaseModelOutput

from exporter.errors import InputError
from exporter.signature import CAPACITY, SOURCE, StateItem
from exporter.sources.quiet import quiet_transformers
from exporter.tracing.operators import scatter_cache
from exporter.tracing.positions import rows_of_positions
from exporter.tracing.routing import SPELLED_OUT, attend

ATTENTION = "jisu-encoder-decoder"
MASK = "mask"


class EncoderDecoder(nn.Module):
    """A transformers model as ``encode(input_ids, attention_mask) -> state`` and the traced interface on that state.

    The state is, in this order: each layer's key and value buffers; the source's mask, int64 [B, source]; each layer's
    cross-attention keys and values. The last two are the encoder's to write, and `forward` only reads them.
    """

    weight_prefix = "model."

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        # Read off now, while the model still has an attention of its own to run with.
        self._state_spec, self._width = self._observed()
        self._layers = sum(kind == "kv" for _, kind, _, _ in self._state_spec) // 2
        self._attention = ATTENTION if self._asks_for_attention() else SPELLED_OUT

    def state_spec(self) -> list[StateItem]:
        """Name, kind, dims and dtype of each tensor that the decoder reads, in the order of its inputs."""
        return list(self._state_spec)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """Read source texts, int64 [B, source] with a mask of ones for tokens and zeros for padding behind them.

        Returns:
            The mask, and each layer's cross-attention keys and values [B, H, source, D].
        """
        if not torch.compiler.is_exporting():
            return self._encode(input_ids, attention_mask)
        with _attention_of_ours(self.model, self._attention, _attend):
            return self._encode(input_ids, attention_mask)

    def forward(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Append tokens to what the decoder has said.

        Args:
            input_ids: int64 [B, T], rows padded on the right.
            past_length: int64 [B].
            state: in the order of `state_spec`.

        Returns:
            logits [B, T, V] and the key/value buffers with the new keys and values written at ``past_length``.
        """
        if torch.compiler.is_exporting():
            return self._decode(input_ids, past_length, state)
        # Run as it is, with an attention of its own, a model wants one past for all rows.
        lengths = past_length.tolist()
        if len(set(lengths)) == 1:
            return self._decode(input_ids, past_length, state)
        rows = [
            self._decode(input_ids[row : row + 1], past_length[row : row + 1], [part[row : row + 1] for part in state])
            for row in range(len(lengths))
        ]
        logits = torch.cat([logits for logits, _ in rows])
        return logits, [torch.cat(parts) for parts in zip(*(written for _, written in rows), strict=True)]

    def _observed(self) -> tuple[list[StateItem], int]:
        """Run two tokens through both halves; returns what the cache then holds, and the width of the hidden states."""
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        two, one = torch.tensor([[0, 1]]), torch.tensor([[0]])
        with torch.inference_mode(), quiet_transformers():
            output = self.model(input_ids=two, decoder_input_ids=one, past_key_values=cache)
        halves: list[Any] = [cache.self_attention_cache, cache.cross_attention_cache]
        layers: list[list[Any]] = [list(half.layers) for half in halves]
        complete = all(_holds_tensors(layer) for half in layers for layer in half)
        if not layers[0] or len(layers[0]) != len(layers[1]) or not complete:
            raise InputError(
                f"The state of {type(self.model).__name__} cannot be carried from token to token",
                received=f"{len(layers[0])} layers of its own and {len(layers[1])} of the source",
                allowed="keys and values of each decoder layer, its own and those of the source",
                fix="Use a model whose decoder attends to its source layer by layer.",
            )
        items: list[StateItem] = [("mask", "encoder", ("B", SOURCE), "int64")]
        kinds = (("kv", CAPACITY, layers[0]), ("encoder", SOURCE, layers[1]))
        own, crossed = (
            [
                (f"{index}.{role}", kind, ("B", tensor.shape[1], axis, tensor.shape[3]), "float32")
                for index, layer in enumerate(part)
                for role, tensor in (("key", layer.keys), ("value", layer.values))
            ]
            for kind, axis, part in kinds
        )
        return [*own, *items, *crossed], int(output.encoder_last_hidden_state.shape[-1])  # type: ignore[list-item]

    def _asks_for_attention(self) -> bool:
        """Whether the model asks transformers' interface for its attention, found out by listening to two tokens."""
        asked = []

        def listen(*arguments: Any, **options: Any) -> tuple[Tensor, None]:
            asked.append(True)
            return _attend(*arguments, **options)

        two = torch.tensor([[0, 1]])
        ours = _attention_of_ours(self.model, ATTENTION, listen)
        # An attention that is refused is asked for all the same, and refused with its reason when traced.
        with quiet_transformers(), torch.inference_mode(), contextlib.suppress(Exception), ours:
            self._encode(two, torch.ones_like(two))
        return bool(asked)

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """Let the decoder say one token, whose only purpose is that each layer asks for its keys and values."""
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        first = torch.zeros((input_ids.shape[0], 1), dtype=torch.int64, device=input_ids.device)
        self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=first,
            past_key_values=cache,
        )
        layers: list[Any] = cache.cross_attention_cache.layers
        return [attention_mask.clone(), *(tensor for layer in layers for tensor in (layer.keys, layer.values))]

    def _decode(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        own, mask, crossed = state[: 2 * self._layers], state[2 * self._layers], state[2 * self._layers + 1 :]
        capacity = own[0].shape[2]
        exporting = torch.compiler.is_exporting()
        seen = past_length if exporting else int(past_length[0])
        buffers = [_Buffer(*pair, past_length, seen) for pair in zip(own[::2], own[1::2], strict=True)]
        given = [_Given(*pair) for pair in zip(crossed[::2], crossed[1::2], strict=True)]
        cache = _TwoCaches(Cache(layers=list(buffers)), Cache(layers=list(given)), seen, capacity)
        key = torch.arange(capacity, device=input_ids.device)[None, :]
        arguments: dict[str, Any] = {
            # Never read, since its keys and values are given; only its length counts.
            "encoder_outputs": BaseModelOutput(
                last_hidden_state=torch.zeros((*mask.shape, self._width), device=input_ids.device)
            ),
            "attention_mask": mask,
            "decoder_input_ids": input_ids,
            "decoder_attention_mask": (key < past_length[:, None] + input_ids.shape[1]).to(torch.int64),
            "past_key_values": cache,
        }
        if exporting:
            lookup = _BiasLookup(buffers, past_length, capacity)
            with _attention_of_ours(self.model, self._attention, lookup.attend), rows_of_positions(self.model):
                logits = self.model(**arguments).logits
        else:
            logits = self.model(**arguments).logits
        return logits, [tensor for layer in buffers for tensor in (layer.keys, layer.values)]


class EncoderHalf(nn.Module):
    """`EncoderDecoder.encode` as a module, for whoever traces it."""

    def __init__(self, whole: EncoderDecoder) -> None:
        super().__init__()
        self.whole = whole
        self.weight_prefix = f"whole.{whole.weight_prefix}"

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        return self.whole.encode(input_ids, attention_mask)


class _Buffer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's key/value buffers of fixed capacity; writes go to each row's own length."""

    is_sliding = False
    # Of fixed size: its keys behind the last token have to be masked for a single query as well.
    is_compileable = True

    def __init__(self, keys: Tensor, values: Tensor, past_length: Tensor, seen: Tensor | int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.past_length = past_length
        self.seen = seen
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise AssertionError("the buffers are there from the start")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.keys = scatter_cache(self.keys, key_states, self.past_length)
        self.values = scatter_cache(self.values, value_states, self.past_length)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_seq_length(self) -> Tensor | int:  # type: ignore[override]  # one length per row, for the mask
        return self.seen

    def get_max_length(self) -> int:
        return -1


class _Given(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys and values of the source, which nobody adds to."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise AssertionError("the keys are there from the start")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        raise AssertionError("the keys of the source were computed once, for all")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        return 1  # above 0: filled, which is all that anybody asks

    def get_max_length(self) -> int:
        return -1


class _TwoCaches(EncoderDecoderCache):
    """transformers' pair of caches, with an answer for each way in which models ask how much has been seen."""

    def __init__(self, own: Cache, crossed: Cache, seen: Tensor | int, capacity: int) -> None:
        super().__init__(own, crossed)
        self._seen = seen
        self._capacity = capacity

    def get_seq_length(self, layer_idx: int | None = None) -> Tensor | int:  # type: ignore[override]
        """For positions, which a decoder asks for once: each row's own length, [B, 1].

        A layer asks by its number, for relative biases, and would be given one length for all rows. It is told that
        all but one of the places are taken: its first query then stands in the last place and gets the biases of every
        distance there is, of which `_BiasLookup` takes each row's own.
        """
        if not isinstance(self._seen, Tensor):
            return self._seen
        return self._seen[:, None] if layer_idx is None else self._capacity - 1

    def get_query_offset(self, layer_idx: int = 0) -> Any:
        return self.self_attention_cache.get_query_offset(layer_idx)


class _BiasLookup:
    """Attention for one call of a decoder that is being traced, with relative biases for each row's own past."""

    def __init__(self, buffers: list[_Buffer], past_length: Tensor, capacity: int) -> None:
        self._buffers = buffers
        self._past_length = past_length
        self._capacity = capacity
        self._found: dict[int, tuple[Tensor, Tensor]] = {}

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
        return _attend(module, query, key, value, attention_mask, position_bias, **arguments)

    def _of_rows(self, bias: Tensor, new: int) -> Tensor:
        """[1, H, T, capacity], whose first query stands in the last place -> [B, H, T, capacity].

        Distance d lies at place capacity - 1 - d of the first query's biases. Keys behind a query, which no mask lets
        it see, get those of distance 0.
        """
        known = self._found.get(id(bias))
        if known is not None:
            return known[1]
        place = torch.arange(self._capacity, device=bias.device)
        query = self._past_length[:, None] + torch.arange(new, device=bias.device)
        distance = (query[:, :, None] - place).clamp(min=0)
        found = bias[0, :, 0][:, (self._capacity - 1 - distance).clamp(min=0)].transpose(0, 1)
        # The biases are kept with them: a number that stands for an object is another's once the object is gone.
        self._found[id(bias)] = (bias, found)
        return found


def _attend(
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


def _holds_tensors(layer: Any) -> bool:
    return all(isinstance(getattr(layer, name, None), Tensor) for name in ("keys", "values"))


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
def _attention_of_ours(
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
