"""A feed-forward network over the last few words (Bengio et al. 2003, JMLR 3, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jisu.exporter.contract.signature import StateItem
from jisu.exporter.models.settings import ModelSettings


class NGram(nn.Module):
    """hidden_t = tanh(W [e_{t-n+1}; ...; e_t] + b), and further layers of the same kind on top.

    Before the first word stands padding, whose embedding is zero, as an empty state is.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.context = settings.context
        self.embedding_size = settings.embedding_size
        sizes = [settings.context * settings.embedding_size, *[settings.hidden_size] * settings.layers]
        self.layers = nn.ModuleList(nn.Linear(size, settings.hidden_size) for size in sizes[:-1])
        self.dropout = nn.Dropout(settings.dropout)

    def state_spec(self) -> list[StateItem]:
        return [("window", "recurrent", ("B", self.context - 1, self.embedding_size), "float32")]

    def forward(self, embedded: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `exporter.models.body.Body`; the state holds the embeddings of the last n - 1 words."""
        batch, new = embedded.shape[:2]
        before = state[0] if state else embedded.new_zeros(batch, self.context - 1, self.embedding_size)
        seen = torch.cat([before, embedded], dim=1)
        hidden = torch.cat([seen[:, back : back + new] for back in range(self.context)], dim=2)
        for layer in self.layers:
            hidden = torch.tanh(layer(self.dropout(hidden)))
        return hidden, [seen[:, new:]]
