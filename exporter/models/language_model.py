"""A language model around any of the networks: the next word's scores, with the traced interface."""

from __future__ import annotations

from torch import Tensor, nn

from jisu.exporter.contract.signature import StateItem
from jisu.exporter.models.body import build_body
from jisu.exporter.models.settings import PAD_ID, ModelSettings


class LanguageModel(nn.Module):
    """Token ids -> scores of the token after each of them."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(settings.vocab_size, settings.embedding_size, padding_idx=PAD_ID)
        self.dropout = nn.Dropout(settings.dropout)
        self.body = build_body(settings)
        self.output = nn.Linear(settings.hidden_size, settings.vocab_size)

    def state_spec(self) -> list[StateItem]:
        """What is carried from token to token."""
        items: list[StateItem] = self.body.state_spec()  # type: ignore[operator]  # torch types no attribute
        return items

    def forward(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Append tokens to the state.

        Args:
            input_ids: int64 [B, T].
            past_length: int64 [B].
            state: as `state_spec` lists it, or empty before the first token (see `exporter.models.body.Body`).

        Returns:
            logits [B, T, V] and the new state.
        """
        hidden, state = self.body(self.dropout(self.embedding(input_ids)), past_length, state)
        return self.output(self.dropout(hidden)), state

    def score(self, input_ids: Tensor) -> Tensor:
        """Logits [B, T, V] of whole sequences, padded on the right: no token sees what comes after it."""
        logits: Tensor = self(input_ids, input_ids.new_zeros(len(input_ids)), [])[0]
        return logits
