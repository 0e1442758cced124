"""Images on the one of several canvases that wastes the least, in tiles, with the whole image in one tile before them.

The features of the tiles are read line by line over the whole canvas, without what was filled up, and with a row of
its own, which the graph gives as its last one, behind each line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from jisu.runtimes.images.one_size import PIXELS
from jisu.runtimes.images.pixels import Array, Size, center_cropped, resized, scaled, target_size
from jisu.runtimes.images.preparation import Prepared, Settings
from jisu.runtimes.images.reading import Pixels


def prepare_best_resolution(image: Pixels, settings: Settings) -> Prepared:
    """``pixel_values`` float32 [1 + tiles, 3, H, W] of an image uint8 [H, W, 3]."""
    size, crop = settings["size"], settings.get("crop_size") or {}
    whole = (size["height"], size["width"]) if size.get("height") else (size["shortest_edge"],) * 2
    edge = int(crop.get("height") or size.get("height") or size["shortest_edge"])
    resample, values = int(settings["resample"]), image.transpose(2, 0, 1)
    original: Size = values.shape[-2:]
    canvas = _best(original, settings["image_grid_pinpoints"])
    filled = _filled(resized(values, _within(original, canvas), resample), canvas)
    rows, columns = canvas[0] // edge, canvas[1] // edge
    places = [(top, left) for top in range(0, canvas[0], edge) for left in range(0, canvas[1], edge)]
    tiles = [resized(values, whole, resample), *(filled[:, y : y + edge, x : x + edge] for y, x in places)]
    pixels = np.stack([_finished(tile, settings) for tile in tiles])
    arrange = partial(_arrangement, tiles=len(tiles), rows=rows, columns=columns, original=original)
    return Prepared(inputs={PIXELS: pixels}, rows=rows, columns=columns, arrange=arrange)


def _finished(tile: Array, settings: Settings) -> npt.NDArray[np.float32]:
    if settings.get("do_resize", True):
        tile = resized(tile, target_size(tile, settings["size"]), int(settings["resample"]))
    if settings.get("do_center_crop"):
        crop = settings["crop_size"]
        tile = center_cropped(tile, (int(crop["height"]), int(crop["width"])))
    return scaled(tile, settings)


def _best(size: Size, canvases: Sequence[Sequence[int]]) -> Size:
    """The canvas with the most of the image's pixels, and of those the one with the fewest others."""
    height, width = size
    best, most, least = (int(canvases[0][0]), int(canvases[0][1])), 0, math.inf
    for high, wide in canvases:
        scale = min(wide / width, high / height)
        used = min(int(width * scale) * int(height * scale), width * height)
        wasted = high * wide - used
        if used > most or (used == most and wasted < least):
            best, most, least = (int(high), int(wide)), used, wasted
    return best


def _within(size: Size, canvas: Size) -> Size:
    """The largest size of the image's aspect that fits."""
    (height, width), (high, wide) = size, canvas
    if wide / width < high / height:
        return min(math.ceil(height * (wide / width)), high), wide
    return high, min(math.ceil(width * (high / height)), wide)


def _filled(image: Array, canvas: Size) -> Array:
    """The image in the middle of a black canvas."""
    top, left = ((whole - part) // 2 for whole, part in zip(canvas, image.shape[-2:], strict=True))
    filled = np.zeros((image.shape[0], *canvas), image.dtype)
    filled[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return filled


def _arrangement(count: int, *, tiles: int, rows: int, columns: int, original: Size) -> npt.NDArray[np.int64]:
    """Which of ``count`` rows of features are read, in their order."""
    each = (count - 1) // tiles
    side = math.isqrt(each)
    lines, places = np.meshgrid(np.arange(rows * side), np.arange(columns * side), indexing="ij")
    tile = 1 + lines // side * columns + places // side
    grid = tile * each + lines % side * side + places % side
    (height, width), (high, wide) = original, grid.shape
    if width / height > wide / high:
        cut = (high - int(round(height * (wide / width), 7))) // 2
        grid = grid[cut : high - cut]
    else:
        cut = (wide - int(round(width * (high / height), 7))) // 2
        grid = grid[:, cut : wide - cut]
    ended = np.concatenate([grid, np.full((len(grid), 1), count - 1)], axis=1)
    return np.concatenate([np.arange(each), ended.ravel()]).astype(np.int64)
