"""Small modules as a user might write them: recurrent, with keys and values, without state; and factories of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

VOCAB = 384  # as many rows as the tests' tokenizer has ids at most
POSITIONS = 352


def seeded(module_class: Any, *arguments: Any, **options: Any) -> Any:
    """A module with large random weights, so that a token more or less shows in its logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = module_class(*arguments, **options)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=2 * parameter.shape[-1] ** -0.5)
    return module


class Recurrent(nn.Module):
    """An embedding, recurrent layers with explicit state, a projection."""

    eos_token_id = 1

    def __init__(self, layer: Any = nn.LSTM, depth: int = 2, vocab: int = VOCAB) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, 32)
        self.layers = layer(32, 48, num_layers=depth, batch_first=True)
        self.output = nn.Linear(48, vocab)
        self.depth, self.names = depth, ("hidden", "cell") if layer is nn.LSTM else ("hidden",)

    def state_spec(self) -> list[Any]:
        return [(name, "recurrent", (self.depth, "B", 48), "float32") for name in self.names]

    def forward(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        before = tuple(state) if len(self.names) > 1 else state[0]
        hidden, after = self.layers(self.embedding(input_ids), before)
        return self.output(hidden), list(after) if len(self.names) > 1 else [after]


class Block(nn.Module):
    """One layer with attention spelled out, its keys and values in buffers of fixed size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(
        self, hidden: Tensor, seen: Tensor, past: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, tokens, width = hidden.shape
        heads, size = keys.shape[1], width // keys.shape[1]
        parts = self.qkv(self.before_attention(hidden)).chunk(3, -1)
        query, key, value = (part.view(rows, tokens, heads, size).transpose(1, 2) for part in parts)
        place = (past[:, None] + torch.arange(tokens))[:, None, :, None].expand(-1, heads, -1, size)
        keys, values = keys.scatter(2, place, key), values.scatter(2, place, value)
        scores = (query @ keys.transpose(2, 3) * size**-0.5).masked_fill(~seen, float("-inf"))
        mixed = (scores.softmax(-1) @ values).transpose(1, 2).reshape(rows, tokens, width)
        hidden = hidden + self.out(mixed)
        return hidden + self.down(nn.functional.gelu(self.up(self.before_mlp(hidden)))), keys, values


class Attentive(nn.Module):
    """A small decoder with learned positions and `Block` layers."""

    def __init__(self, depth: int = 2, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(VOCAB, width), nn.Embedding(POSITIONS, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, VOCAB)
        self.heads, self.size = heads, width // heads

    def state_spec(self) -> list[Any]:
        dims = ("B", self.heads, "capacity", self.size)
        return [(f"{n}.{role}", "kv", dims, "float32") for n in range(len(self.blocks)) for role in ("key", "value")]

    def forward(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        positions = past_length[:, None] + torch.arange(input_ids.shape[1])
        hidden = self.embedding(input_ids) + self.position(positions)
        seen = torch.arange(state[0].shape[2]) <= positions[:, None, :, None]
        after: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            hidden, *written = block(hidden, seen, past_length, state[2 * number], state[2 * number + 1])
            after += written
        return self.output(self.norm(hidden)), after


class Stateless(nn.Module):
    """Token ids in, logits out; what it knows of earlier tokens it computes again."""

    def __init__(self, *, bidirectional: bool = False, batch_first: bool = True, vocab: int = VOCAB) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, 32)
        self.layers = nn.GRU(32, 32, batch_first=batch_first, bidirectional=bidirectional)
        self.output = nn.Linear(64 if bidirectional else 32, vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.layers(self.embedding(tokens))[0])  # type: ignore[no-any-return]


def build_recurrent() -> nn.Module:
    """A factory, as `jisu export tests.support.own_modules:build_recurrent` names it."""
    module: nn.Module = seeded(Recurrent)
    return module


def build_stateless() -> nn.Module:
    """The same of a module that keeps nothing from token to token."""
    module: nn.Module = seeded(Stateless)
    return module


def build_nothing() -> None:
    """A factory that forgets its return."""


def build_wrong() -> nn.Module:
    raise RuntimeError("the weights are elsewhere")
