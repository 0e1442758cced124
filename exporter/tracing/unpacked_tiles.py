"""Features of an image's tiles as they come, for a trace: a runtime packs them, by the size of each image.

Models count the tiles of each image by its size and lay their features line by line. Both follow from sizes alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from jisu.exporter.tracing.one_image import Pieces

# How transformers calls what counts and what packs (5.23).
_COUNTS, _PACKS = "image_size_to_num_patches", "pack_image_features"


def packs_tiles(model: nn.Module) -> bool:
    """Whether a model lays the features of tiles itself."""
    return any(hasattr(child, _PACKS) for child in model.modules())


@contextlib.contextmanager
def unpacked_tiles(model: nn.Module) -> Iterator[None]:
    """Let features of all tiles stay in their order, with the row that ends a line behind them."""
    packing = [child for child in model.modules() if hasattr(child, _PACKS)]
    modules = {sys.modules[type(child).__module__] for child in packing}
    counting = [(module, getattr(module, _COUNTS)) for module in modules if hasattr(module, _COUNTS)]
    for module, _ in counting:
        setattr(module, _COUNTS, lambda *_, **__: Pieces(None))
    for child in packing:
        setattr(child, _PACKS, _in_order)
    try:
        yield
    finally:
        for module, own in counting:
            setattr(module, _COUNTS, own)
        for child in packing:
            delattr(child, _PACKS)


def _in_order(features: Any, *_: Any, image_newline: Tensor | None = None, **__: Any) -> tuple[list[Tensor], None]:
    rows = torch.cat([one.reshape(-1, one.shape[-1]) for one in features])
    return [rows if image_newline is None else torch.cat([rows, image_newline[None]])], None
