"""The ways of preparing images, by the names that artifacts have for them."""

from __future__ import annotations

from dataclasses import replace

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_settings import ImageSettings
from jisu.runtimes.images.best_resolution import prepare_best_resolution
from jisu.runtimes.images.closest_canvas import prepare_closest_canvas
from jisu.runtimes.images.grid import grid_arrays
from jisu.runtimes.images.one_size import prepare_one_size, prepare_square
from jisu.runtimes.images.patches import prepare_film_patches, prepare_line_patches, prepare_patches
from jisu.runtimes.images.preparation import Prepare, Prepared
from jisu.runtimes.images.reading import Pixels
from jisu.runtimes.images.tiles import prepare_tiles
from jisu.runtimes.images.whole_patches import prepare_whole_patches

PREPARATIONS: dict[str, Prepare] = {
    "one-size": prepare_one_size,
    "tiles": prepare_tiles,
    "closest-canvas": prepare_closest_canvas,
    "patches": prepare_patches,
    "best-resolution": prepare_best_resolution,
    "whole-patches": prepare_whole_patches,
    "film-patches": prepare_film_patches,
    "line-patches": prepare_line_patches,
    "square": prepare_square,
}


def prepare_image(image: Pixels, settings: ImageSettings) -> Prepared:
    """An image uint8 [H, W, 3] as an artifact's vision graph reads it.

    Raises:
        InputError: an image of a shape that the model does not read, or settings that no export wrote.
    """
    try:
        prepared = PREPARATIONS[settings.preparation](image, settings.settings)
        arrays = grid_arrays(prepared.rows, prepared.columns, settings.grid_inputs)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            "The artifact's settings for images cannot be followed",
            received=f"{type(error).__name__}: {error}",
            allowed="images.json as the export wrote it",
            fix="Export the model again.",
        ) from error
    return replace(prepared, inputs={**prepared.inputs, **arrays})
