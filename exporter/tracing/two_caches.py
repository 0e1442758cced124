"""transformers' caches of a decoder that reads a source: its own buffers, and the source's keys and values as given."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, EncoderDecoderCache

from jisu.exporter.tracing.operators import scatter_cache


class BufferLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
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


class GivenLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
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


class TwoCaches(EncoderDecoderCache):
    """transformers' pair of caches, with an answer for each way in which models ask how much has been seen."""

    def __init__(self, own: Cache, crossed: Cache, seen: Tensor | int, capacity: int) -> None:
        super().__init__(own, crossed)
        self._seen = seen
        self._capacity = capacity

    def get_seq_length(self, layer_idx: int | None = None) -> Tensor | int:  # type: ignore[override]
        """For positions, which a decoder asks for once: each row's own length, [B, 1].

        A layer asks by its number, for relative biases, and would be given one length for all rows. It is told that
        all but one of the places are taken: its first query then stands in the last place and gets the biases of every
        distance there is, of which `BiasLookup` takes each row's own.
        """
        if not isinstance(self._seen, Tensor):
            return self._seen
        return self._seen[:, None] if layer_idx is None else self._capacity - 1

    def get_query_offset(self, layer_idx: int = 0) -> Any:
        return self.self_attention_cache.get_query_offset(layer_idx)
