"""What every network between embedding and output does, whatever is inside it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from jisu.exporter.contract.signature import StateItem
from jisu.exporter.models.ngram import NGram
from jisu.exporter.models.recurrent import GRU, LSTM
from jisu.exporter.models.settings import ModelSettings
from jisu.exporter.models.transformer import Transformer


class Body(Protocol):
    """Embeddings in, hidden states out; a hidden state depends on its own and on earlier tokens only."""

    def state_spec(self) -> list[StateItem]: ...

    def __call__(self, embedded: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Append tokens.

        Args:
            embedded: float32 [B, T, E].
            past_length: int64 [B], tokens that the state has seen.
            state: tensors as `state_spec` lists them. An empty list stands for the state before the first token; what
                comes back then has room for exactly these tokens. So whole sequences are trained on without a buffer,
                by the same arithmetic.

        Returns:
            float32 [B, T, C] and the new state.
        """
        ...


def build_body(settings: ModelSettings) -> nn.Module:
    """The network that the settings ask for; it implements `Body`."""
    if settings.network == "ngram":
        return NGram(settings)
    if settings.network == "lstm":
        return LSTM(settings)
    if settings.network == "gru":
        return GRU(settings)
    return Transformer(settings)
