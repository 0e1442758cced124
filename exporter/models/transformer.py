"""A small Transformer decoder (Vaswani et al. 2017), normalized before each part (Xiong et al. 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from jisu.exporter.contract.signature import CAPACITY, StateItem
from jisu.exporter.models.settings import ModelSettings
from jisu.exporter.tracing.operators import attention, scatter_cache


class Transformer(nn.Module):
    """Attention over all earlier tokens; keys and values are the state."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.inward = nn.Linear(settings.embedding_size, settings.hidden_size)
        self.layers = nn.ModuleList(_Layer(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.hidden_size)
        self.heads, self.size = settings.heads, settings.hidden_size

    def state_spec(self) -> list[StateItem]:
        dims = ("B", self.heads, CAPACITY, self.size // self.heads)
        return [
            (f"{index}.{role}", "kv", dims, "float32") for index in range(len(self.layers)) for role in ("key", "value")
        ]

    def forward(self, embedded: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `exporter.models.body.Body`."""
        new = embedded.shape[1]
        position = past_length[:, None] + torch.arange(new, device=embedded.device)
        capacity = state[0].shape[2] if state else new
        # [B, 1, T, capacity]: a token sees itself and what came before it.
        seen = torch.arange(capacity, device=embedded.device) <= position[:, None, :, None]
        hidden = self.inward(embedded) + sinusoids(position, self.size)
        after: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            hidden, key, value = layer(hidden, past_length, seen, state[2 * index : 2 * index + 2])
            after += [key, value]
        return self.norm(hidden), after


class _Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        size = settings.hidden_size
        self.heads = settings.heads
        self.attention_norm = nn.LayerNorm(size)
        self.query, self.key, self.value, self.output = (nn.Linear(size, size) for _ in range(4))
        self.mlp_norm = nn.LayerNorm(size)
        self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(
        self, hidden: Tensor, past_length: Tensor, seen: Tensor, state: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [B, T, C], seen bool [B, 1, T, capacity]; returns hidden, keys and values."""
        normed = self.attention_norm(hidden)
        query, key, value = (self._by_head(part(normed)) for part in (self.query, self.key, self.value))
        if state:
            key, value = (scatter_cache(past, new, past_length) for past, new in zip(state, (key, value), strict=True))
        mixed = attention(query, key, value, seen, scale=query.shape[-1] ** -0.5)
        hidden = hidden + self.dropout(self.output(mixed.transpose(1, 2).flatten(2)))
        hidden = hidden + self.dropout(self.down(functional.gelu(self.up(self.mlp_norm(hidden)))))
        return hidden, key, value

    def _by_head(self, tensor: Tensor) -> Tensor:
        """[B, T, H * D] -> [B, H, T, D]."""
        return tensor.reshape(*tensor.shape[:2], self.heads, -1).transpose(1, 2)


def sinusoids(position: Tensor, size: int) -> Tensor:
    """Positions int64 [B, T] -> float32 [B, T, size]; no length is too long (Vaswani et al. 2017, section 3.5).

    The first half is sin(p / 10000^(2i/size)), the second cos of the same.
    """
    exponent = torch.arange(0, size, 2, device=position.device, dtype=torch.float32) / size
    angle = position[:, :, None].to(torch.float32) * torch.exp(-math.log(10000.0) * exponent)
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=2)
