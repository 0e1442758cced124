"""Weights of small models in which every part shows: larger than a fresh model's, and norms that are not all ones."""

from __future__ import annotations

from typing import Any


def randomize(model: Any) -> None:
    """Draw a model's weights anew, from torch's own generator."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
