"""Gated recurrent units (Cho et al. 2014, section 2.3, in torch's form: the reset gate acts after the product)."""

from __future__ import annotations

from torch import Tensor, nn

from exporter.models.settings import ModelSettings
from exporter.signature import StateItem


class GRU(nn.Module):
    """torch's GRU with its hidden state handed in and out."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.shape = (settings.layers, settings.hidden_size)
        self.gru = nn.GRU(
            settings.embedding_size,
            settings.hidden_size,
            num_layers=settings.layers,
            dropout=settings.dropout if settings.layers > 1 else 0.0,  # torch drops between layers only
            batch_first=True,
        )

    def state_spec(self) -> list[StateItem]:
        layers, size = self.shape
        return [("hidden", "recurrent", (layers, "B", size), "float32")]

    def forward(self, embedded: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `exporter.models.body.Body`."""
        output, hidden = self.gru(embedded, state[0] if state else None)
        return output, [hidden]
