"""Stored tensors as a finder sees them, and what it makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.table import Table, stored_table
from jisu.exporter.sources.stored_weights import StoredWeights


def table_of(tensors: Mapping[str, Any]) -> Table:
    return stored_table(
        StoredWeights(
            weights=tensors,
            shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
            dtypes={name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()},
        )
    )


def declared(method: str = "", **settings: Any) -> Declaration:
    origin = "quantization_config in config.json" if method else ""
    return Declaration(method=method, settings=settings, origin=origin)


def only(finder: Any, tensors: Mapping[str, Any], declaration: Declaration | None = None) -> Any:
    """The one weight that a finder makes of some tensors."""
    (weight,) = finder(table_of(tensors), declaration or declared())
    return weight
