"""torch's recurrent layers with their state handed in and out.

LSTM: long short-term memory (Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000).
GRU: gated recurrent units (Cho et al. 2014, section 2.3, in torch's form: the reset gate acts after the product).
"""

from __future__ import annotations

from torch import Tensor, nn

from jisu.exporter.contract.signature import StateItem
from jisu.exporter.models.settings import ModelSettings


class LSTM(nn.Module):
    """With a hidden state h and a cell c."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.lstm = _layers(nn.LSTM, settings)

    def state_spec(self) -> list[StateItem]:
        return [_item("hidden", self.settings), _item("cell", self.settings)]

    def forward(self, embedded: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `exporter.models.body.Body`."""
        output, (hidden, cell) = self.lstm(embedded, (state[0], state[1]) if state else None)
        return output, [hidden, cell]


class GRU(nn.Module):
    """With a hidden state."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.gru = _layers(nn.GRU, settings)

    def state_spec(self) -> list[StateItem]:
        return [_item("hidden", self.settings)]

    def forward(self, embedded: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `exporter.models.body.Body`."""
        output, hidden = self.gru(embedded, state[0] if state else None)
        return output, [hidden]


def _layers(kind: type[nn.LSTM] | type[nn.GRU], settings: ModelSettings) -> nn.LSTM | nn.GRU:
    return kind(
        settings.embedding_size,
        settings.hidden_size,
        num_layers=settings.layers,
        dropout=settings.dropout if settings.layers > 1 else 0.0,  # torch drops between layers only
        batch_first=True,
    )


def _item(name: str, settings: ModelSettings) -> StateItem:
    return (name, "recurrent", (settings.layers, "B", settings.hidden_size), "float32")
