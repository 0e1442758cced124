"""Calls of the traced interface, on torch modules and on graphs, and the stock model's answer to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.exporter.passes.draft import run


def empty_state(module: Any, batch: int, capacity: int) -> list[torch.Tensor]:
    sizes = {"B": batch, "capacity": capacity}
    return [torch.zeros([sizes.get(dim, dim) for dim in dims]) for _, _, dims, _ in module.state_spec()]


def tokens(batch: int, length: int, *, vocab: int = 384, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(3, vocab, (batch, length)))


def stock_logits(model: Any, ids: torch.Tensor) -> np.ndarray:
    """Each row by itself, whole, without a cache: [B, T, V]."""
    with torch.inference_mode():
        return torch.cat([model(row[None], use_cache=False).logits for row in ids]).numpy()


def eager(module: Any, ids: torch.Tensor, past: list[int], state: list[torch.Tensor]) -> tuple[Any, Any]:
    with torch.inference_mode():
        return module(ids, torch.tensor(past), state)


def on_graph(graph: Any, ids: torch.Tensor, past: list[int], state: list[Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    names = [value.name for value in graph.graph.inputs][2:]
    feeds = {name: np.asarray(tensor) for name, tensor in zip(names, state, strict=True)}
    actual = run(graph, {"input_ids": ids.numpy(), "past_length": np.array(past), **feeds})
    return actual["logits"], [actual[value.name] for value in graph.graph.outputs[1:]]
