"""Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000)."""

from __future__ import annotations

from torch import Tensor, nn

from exporter.models.settings import ModelSettings
from exporter.signature import StateItem


class LSTM(nn.Module):
    """torch's LSTM with its hidden state h and its cell c handed in and out."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.shape = (settings.layers, settings.hidden_size)
        self.lstm = nn.LSTM(
            settings.embedding_size,
            settings.hidden_size,
            num_layers=settings.layers,
            dropout=settings.dropout if settings.layers > 1 else 0.0,  # torch drops between layers only
            batch_first=True,
        )

    def state_spec(self) -> list[StateItem]:
        layers, size = self.shape
        return [(name, "recurrent", (layers, "B", size), "float32") for name in ("hidden", "cell")]

    def forward(self, embedded: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `exporter.models.body.Body`."""
        output, (hidden, cell) = self.lstm(embedded, (state[0], state[1]) if state else None)
        return output, [hidden, cell]
