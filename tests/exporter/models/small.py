"""Small models with seeded weights, and what the tests of each network ask of it."""

from __future__ import annotations

import torch

from jisu.exporter.models.language_model import LanguageModel
from jisu.exporter.models.settings import ModelSettings, Network


def settings(network: Network, **changes) -> ModelSettings:
    sizes = {"vocab_size": 40, "embedding_size": 8, "hidden_size": 16, "layers": 2, "heads": 2, "context": 3}
    return ModelSettings(network=network, **{**sizes, **changes})


def language_model(network: Network, **changes) -> LanguageModel:
    torch.manual_seed(7)
    return LanguageModel(settings(network, **changes)).eval()


def empty_state(model: LanguageModel, *, batch: int, capacity: int) -> list[torch.Tensor]:
    sizes = {"B": batch, "capacity": capacity}
    return [torch.zeros([sizes.get(dim, dim) for dim in dims]) for _, _, dims, _ in model.state_spec()]


def scores_in_pieces(model: LanguageModel, ids: torch.Tensor, pieces: list[int]) -> torch.Tensor:
    """The logits of whole sequences, computed from piece to piece with the state carried along."""
    state = empty_state(model, batch=len(ids), capacity=ids.shape[1] + 2)
    past, actual = torch.zeros(len(ids), dtype=torch.int64), []
    for piece in torch.split(ids, pieces, dim=1):
        logits, state = model(piece, past, state)
        past = past + piece.shape[1]
        actual.append(logits)
    return torch.cat(actual, dim=1)
