"""Tells models apart, so that statistics of one are never used for another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SAMPLES = 1024  # values per parameter that go into the hash beside its sum
PIECE = 1 << 20


def model_fingerprint(model: torch.nn.Module, *, buffers: bool = False) -> str:
    """SHA-256 of every parameter's name, shape, sum and evenly spaced values: a fraction of the time of hashing them
    all.

    Two models differ in it unless they differ only in weights whose changes cancel out and that lie between the
    samples.

    Args:
        buffers: those count too, persistent or not.
    """
    import torch

    digest = hashlib.sha256()
    for name, parameter in (*model.named_parameters(), *(model.named_buffers() if buffers else ())):
        values = parameter.detach().reshape(-1)
        step = max(1, values.numel() // SAMPLES)
        # In pieces: torch converts all that it is to add up to float64 first (2.13).
        total = sum(
            (piece.sum(dtype=torch.float64) for piece in values.split(PIECE)),
            start=torch.zeros((), dtype=torch.float64, device=values.device),
        )
        digest.update(f"{name}{list(parameter.shape)}".encode())
        digest.update(total.cpu().numpy().tobytes() + values[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()
