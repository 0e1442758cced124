"""Any transformers model that turns a text, or sound, into a text: an encoder that runs once, a decoder with a state.

Nothing here knows an architecture. What a decoder reads of its source are the keys and values that its cross-attention
puts into transformers' `EncoderDecoderCache`: the encoder's half computes them once, the decoder's half finds them
there. Positions come from the lengths that this cache states; relative position biases, which models hand to attention,
are looked up again for each row's own past.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import CAPACITY, SOURCE, StateItem
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.tracing.encoder_input import EncoderInput, text_input
from jisu.exporter.tracing.positions import rows_of_positions
from jisu.exporter.tracing.relative_biases import ATTENTION, BiasLookup, attend_biased, attention_of_ours
from jisu.exporter.tracing.routing import SPELLED_OUT
from jisu.exporter.tracing.two_caches import BufferLayer, GivenLayer, TwoCaches


class _Encoded(BaseModelOutput):
    """What an encoder gave. Some decoders look for a mask of it, which the cache's keys and values have no use for."""

    attention_mask = None


# Some models make one list of positions for all rows where nobody gives them.
_POSITIONS = "decoder_position_ids"


class EncoderDecoder(nn.Module):
    """A transformers model as ``encode(source, mask) -> state`` and the traced interface on that state.

    The state is, in this order: each layer's key and value buffers; the source's mask, int64 [B, source], where it has
    one; each layer's cross-attention keys and values. The last two are the encoder's to write, and `forward` only reads
    them.

    Args:
        model: of transformers.
        reads: what its encoder reads; texts when None.
    """

    weight_prefix = "model."

    def __init__(self, model: PreTrainedModel, reads: EncoderInput | None = None) -> None:
        super().__init__()
        self.model = model
        self.reads = reads or text_input()
        # Read off now, while the model still has an attention of its own to run with.
        self._state_spec, self._width = self._observed()
        self._layers = sum(kind == "kv" for _, kind, _, _ in self._state_spec) // 2
        self._attention = ATTENTION if self._asks_for_attention() else SPELLED_OUT

    def state_spec(self) -> list[StateItem]:
        """Name, kind, dims and dtype of each tensor that the decoder reads, in the order of its inputs."""
        return list(self._state_spec)

    def encode(self, source: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Read sources: texts, int64 [B, source] with a mask of ones for tokens and zeros for padding behind them, or
        features of recordings of one length, which have no mask.

        Returns:
            The mask, where there is one, and each layer's cross-attention keys and values [B, H, source, D].
        """
        if not torch.compiler.is_exporting():
            return self._encode(source, mask)
        with attention_of_ours(self.model, self._attention, attend_biased):
            return self._encode(source, mask)

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
        read, one = self.reads.example[:1], torch.tensor([[0]])
        with torch.inference_mode(), quiet_transformers():
            output = self.model(**{self.reads.name: read}, decoder_input_ids=one, past_key_values=cache)
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
        items: list[StateItem] = [("mask", "encoder", ("B", SOURCE), "int64")] if self.reads.masked else []
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
        calls = []

        def listen(*arguments: Any, **options: Any) -> tuple[Tensor, None]:
            calls.append(True)
            return attend_biased(*arguments, **options)

        read = self.reads.example[:1]
        ours = attention_of_ours(self.model, ATTENTION, listen)
        # An attention that is refused is asked for all the same, and refused with its reason when traced.
        with quiet_transformers(), torch.inference_mode(), contextlib.suppress(Exception), ours:
            self._encode(read, torch.ones_like(read) if self.reads.masked else None)
        return bool(calls)

    def _encode(self, source: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Let the decoder say one token, whose only purpose is that each layer asks for its keys and values."""
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        first = torch.zeros((source.shape[0], 1), dtype=torch.int64, device=source.device)
        self.model(**self.reads.arguments(source, mask), decoder_input_ids=first, past_key_values=cache)
        layers: list[Any] = cache.cross_attention_cache.layers
        crossed = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
        return crossed if mask is None else [mask.clone(), *crossed]

    def _decode(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        own, crossed = state[: 2 * self._layers], state[2 * self._layers :]
        mask = None
        if self.reads.masked:
            mask, crossed = crossed[0], crossed[1:]
        capacity = own[0].shape[2]
        exporting = torch.compiler.is_exporting()
        seen = past_length if exporting else int(past_length[0])
        buffers = [BufferLayer(*pair, past_length, seen) for pair in zip(own[::2], own[1::2], strict=True)]
        cross_layers = [GivenLayer(*pair) for pair in zip(crossed[::2], crossed[1::2], strict=True)]
        cache = TwoCaches(Cache(layers=list(buffers)), Cache(layers=list(cross_layers)), seen, capacity)
        key = torch.arange(capacity, device=input_ids.device)[None, :]
        arguments: dict[str, Any] = {
            # Never read, since its keys and values are given; only its length counts.
            "encoder_outputs": _Encoded(
                last_hidden_state=torch.zeros(
                    (crossed[0].shape[0], crossed[0].shape[2], self._width), device=input_ids.device
                )
            ),
            **({} if mask is None else {"attention_mask": mask}),
            "decoder_input_ids": input_ids,
            "decoder_attention_mask": (key < past_length[:, None] + input_ids.shape[1]).to(torch.int64),
            "past_key_values": cache,
        }
        if _POSITIONS in inspect.signature(self.model.forward).parameters:
            new = torch.arange(input_ids.shape[1], device=input_ids.device)
            arguments[_POSITIONS] = past_length[:, None] + new
        if exporting:
            lookup = BiasLookup(buffers, past_length, capacity)
            with attention_of_ours(self.model, self._attention, lookup.attend), rows_of_positions(self.model):
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

    def forward(self, source: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        return self.whole.encode(source, mask)


def _holds_tensors(layer: Any) -> bool:
    return all(isinstance(getattr(layer, name, None), Tensor) for name in ("keys", "values"))
