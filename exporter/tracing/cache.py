"""A transformers `Cache` whose layers are tensors of the traced interface.

What is read is given, what is written is taken.
Key/value buffers are written at each row's own length; convolution and recurrent states are replaced. Nothing here
knows a model: which tensors a layer keeps is read off a cache that the model has filled itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DummyLayer, LinearAttentionLayer

from jisu.exporter.contract.signature import CAPACITY, StateItem
from jisu.exporter.tracing.operators import scatter_cache

# Roles of state tensors; the last two count, since a layer may keep several states of each. An index is one more key
# per token, by which sparse attention chooses the tokens that it looks at.
KEY, VALUE, INDEX, CONVOLUTION, RECURRENT = "key", "value", "index", "conv", "recurrent"


def describe_cache(layers: Sequence[Any], tokens: int) -> list[StateItem] | None:
    """What layers hold after ``tokens`` tokens, in their order; None when one of them keeps something else.

    A layer without any state adds nothing.
    """
    items: list[StateItem] = []
    for index, layer in enumerate(layers):
        kept = [(KEY, getattr(layer, "keys", None)), (VALUE, getattr(layer, "values", None))]
        if (index_keys := getattr(layer, "indexer_keys", None)) is not None:  # [B, tokens, D]
            kept.append((INDEX, index_keys[:, None]))
        for role, tensor in kept:
            if tensor is None:
                continue
            if tensor.dim() != 4 or tensor.shape[2] != tokens:
                return None
            items.append((f"{index}.{role}", "kv", ("B", tensor.shape[1], CAPACITY, tensor.shape[3]), _dtype(tensor)))
        states = [(CONVOLUTION, getattr(layer, "conv_states", {})), (RECURRENT, getattr(layer, "recurrent_states", {}))]
        for role, tensors in states:
            for number, tensor in tensors.items():
                if tensor is not None:
                    name = f"{index}.{role}.{number}"
                    items.append((name, "recurrent", ("B", *tensor.shape[1:]), _dtype(tensor)))
        if getattr(layer, "indexer_position_ids", None) is not None:
            return None
    return items


def layer_of(item: StateItem) -> int:
    """The layer of the cache that a state tensor belongs to."""
    return int(item[0].partition(".")[0])


class StateCache(Cache):
    """The cache that a model is given while it is traced or run behind the traced interface.

    Args:
        items: as `describe_cache` gave them.
        state: one tensor for each.
        count: layers of the model, those without state included.
        past_length: int64 [B].
        reported: what the model gets when it asks how many tokens the cache holds.
        spare: empty places that the model sees behind each buffer. No mask lets a query see them. A model that
            chooses a number of keys by an index finds as many in the shortest text.
    """

    begins = False

    def __init__(
        self,
        items: Sequence[StateItem],
        state: Sequence[Tensor],
        *,
        count: int,
        past_length: Tensor,
        reported: Any,
        spare: int = 0,
    ) -> None:
        self._reported = reported
        self._places = [_place(name) for name, *_ in items]
        held: list[dict[tuple[str, int], Tensor]] = [{} for _ in range(count)]
        for (index, role, number), tensor in zip(self._places, state, strict=True):
            held[index][role, number] = tensor
        layers = [_layer(tensors, past_length) for tensors in held]
        for layer in layers:
            layer.spare = spare
        super().__init__(layers=layers)

    @property
    def is_initialized(self) -> bool:
        """Whether models are told that tokens came before; some make masks of another kind for the first ones."""
        return not self.begins and super().is_initialized

    def get_seq_length(self, layer_idx: int = 0) -> Any:
        return self._reported

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """All layers' buffers have one capacity; a model without any is as long as its new tokens."""
        for layer in self.layers:
            if isinstance(layer, _BufferLayer):
                return layer.get_mask_sizes(query_length)
        return query_length, 0

    def written(self) -> list[Tensor]:
        """The state after the call, in the order it was given in."""
        tensors_in_order = []
        for index, role, number in self._places:
            layer: Any = self.layers[index]
            tensors = {KEY: {0: layer.keys}, VALUE: {0: layer.values}} if role in (KEY, VALUE) else {}
            if role == INDEX:
                tensors[INDEX] = {0: layer.index_keys}
            tensors |= {
                CONVOLUTION: getattr(layer, "conv_states", {}),
                RECURRENT: getattr(layer, "recurrent_states", {}),
            }
            tensors_in_order.append(tensors[role][number])
        return tensors_in_order


class _BufferLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's key/value buffers of fixed capacity; writes go to each row's own length."""

    is_sliding = False
    spare = 0

    def __init__(self, keys: Tensor, values: Tensor, past_length: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.past_length = past_length
        self.is_initialized = True

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the buffers are there from the start")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.keys = scatter_cache(self.keys, key_states, self.past_length)
        self.values = scatter_cache(self.values, value_states, self.past_length)
        return self._with_spare(self.keys), self._with_spare(self.values)

    def _with_spare(self, buffer: Tensor) -> Tensor:
        return torch.nn.functional.pad(buffer, (0, 0, 0, self.spare)) if self.spare else buffer

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2] + self.spare, 0

    def get_seq_length(self) -> Tensor:  # type: ignore[override]  # one length per row
        return self.past_length

    def get_max_length(self) -> int:
        return -1


class _IndexedLayer(_BufferLayer):  # type: ignore[no-untyped-call]
    """A buffer layer with one more key [B, 1, capacity, D] for each token."""

    def __init__(self, tensors: dict[tuple[str, int], Tensor], past_length: Tensor) -> None:
        super().__init__(tensors[KEY, 0], tensors[VALUE, 0], past_length)
        self.index_keys = tensors[INDEX, 0]

    def update_indexer(self, indexer_key_states: Tensor) -> Tensor:
        self.index_keys = scatter_cache(self.index_keys, indexer_key_states[:, None], self.past_length)
        return self._with_spare(self.index_keys)[:, 0]


class _RecurrentLayer(LinearAttentionLayer):
    """One layer's convolution and recurrent states. A row that has seen nothing has zeros, so there always is a past.

    The tensors are copies: models write decode steps into them in place.
    """

    def __init__(self, tensors: dict[tuple[str, int], Tensor]) -> None:
        numbers = [number for role, number in tensors if role in (CONVOLUTION, RECURRENT)]
        super().__init__(number_of_states=1 + max(numbers))
        for (role, number), tensor in tensors.items():
            if role in (CONVOLUTION, RECURRENT):
                states = self.conv_states if role == CONVOLUTION else self.recurrent_states
                states[number] = tensor.clone()
                self.has_previous_state[number] = True
        self.is_conv_states_initialized = {number: state is not None for number, state in self.conv_states.items()}
        self.is_recurrent_states_initialized = dict.fromkeys(self.recurrent_states, True)

    def update_conv_state(  # type: ignore[override]
        self, conv_states: Tensor, state_idx: int = 0, **_: Any
    ) -> Tensor:
        """Append the new columns, keep the last ones, return all of them."""
        past = self.conv_states[state_idx]
        assert past is not None
        whole = torch.cat([past, conv_states], dim=-1)
        self.conv_states[state_idx] = whole[..., -past.shape[-1] :]
        return whole

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **_: Any) -> Tensor:
        self.recurrent_states[state_idx] = recurrent_states
        return recurrent_states

    def get_max_length(self) -> int:
        return -1


class _HybridLayer(_RecurrentLayer, _BufferLayer):  # type: ignore[no-untyped-call, override]
    """A layer that keeps both."""

    def __init__(self, tensors: dict[tuple[str, int], Tensor], past_length: Tensor) -> None:
        _RecurrentLayer.__init__(self, tensors)
        _BufferLayer.__init__(self, tensors[KEY, 0], tensors[VALUE, 0], past_length)

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the state is there from the start")

    def get_max_length(self) -> int:
        return -1


def _layer(tensors: dict[tuple[str, int], Tensor], past_length: Tensor) -> Any:
    roles = {role for role, _ in tensors}
    if not roles:
        return DummyLayer()  # type: ignore[no-untyped-call]
    if roles == {KEY, VALUE}:
        return _BufferLayer(tensors[KEY, 0], tensors[VALUE, 0], past_length)
    if roles == {KEY, VALUE, INDEX}:
        return _IndexedLayer(tensors, past_length)
    return _HybridLayer(tensors, past_length) if KEY in roles else _RecurrentLayer(tensors)


def _place(name: str) -> tuple[int, str, int]:
    """``3.conv.1`` -> (3, "conv", 1)"""
    index, role, *number = name.split(".")
    return int(index), role, int(number[0]) if number else 0


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
