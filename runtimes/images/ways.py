"""The ways of preparing images, by the names that artifacts have for them."""

from __future__ import annotations

from jisu.runtimes.images.closest_canvas import prepare_closest_canvas
from jisu.runtimes.images.one_size import prepare_one_size
from jisu.runtimes.images.preparation import Prepare
from jisu.runtimes.images.tiles import prepare_tiles

PREPARATIONS: dict[str, Prepare] = {
    "one-size": prepare_one_size,
    "tiles": prepare_tiles,
    "closest-canvas": prepare_closest_canvas,
}
