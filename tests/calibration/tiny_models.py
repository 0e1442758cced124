"""Models of a few hundred weights with what real ones have: layers with shared inputs, and a recurrent one."""

from __future__ import annotations

from types import SimpleNamespace

import torch

VOCABULARY = 32
WIDTH = 32


class TinyLayer(torch.nn.Module):
    """Three layers on one input, then two on another, then one: the shape of a decoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.query = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate = torch.nn.Linear(WIDTH, 64, bias=False)
        self.up = torch.nn.Linear(WIDTH, 64, bias=False)
        self.down = torch.nn.Linear(64, WIDTH, bias=False)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.rms_norm(hidden_states, (WIDTH,))
        weights = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2) / 6 + mask, dim=-1)
        hidden_states = hidden_states + weights @ self.value(x)
        x = torch.nn.functional.rms_norm(hidden_states, (WIDTH,))
        return hidden_states + self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))


class TinyDecoder(torch.nn.Module):
    """Two decoder layers with a mask that is built outside of them, as transformers does."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.layers = torch.nn.ModuleList([TinyLayer(), TinyLayer()])
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> SimpleNamespace:
        hidden = self.embedding(input_ids)
        mask = torch.full((input_ids.shape[1],) * 2, float("-inf")).triu(1)
        for layer in self.layers:
            hidden = layer(hidden, mask=mask)
        return SimpleNamespace(logits=self.head(hidden))


class TinyRecurrent(torch.nn.Module):
    """An LSTM and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.lstm = torch.nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY)

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.lstm(self.embedding(input_ids))[0]))


def tiny_decoder(seed: int = 0) -> TinyDecoder:
    torch.manual_seed(seed)
    return TinyDecoder().eval()


def tiny_recurrent() -> TinyRecurrent:
    torch.manual_seed(0)
    return TinyRecurrent().eval()
