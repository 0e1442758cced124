"""Images on the grid of tiles whose shape is the closest to theirs, with the whole image in one tile behind them."""

from __future__ import annotations

import numpy as np

from jisu.runtimes.images.one_size import PIXELS, prepare_one_size
from jisu.runtimes.images.pixels import resized, scaled
from jisu.runtimes.images.preparation import Prepared, Settings
from jisu.runtimes.images.reading import Pixels

_MOST_TILES = 256  # every grid of so many is tried


def prepare_closest_canvas(image: Pixels, settings: Settings) -> Prepared:
    """``pixel_values`` float32 [tiles, 3, H, W] of an image uint8 [H, W, 3]."""
    most = int(settings["max_patches"])
    if not settings.get("crop_to_patches") or most <= 1:
        return prepare_one_size(image, {**settings, "do_pad": False, "do_center_crop": False})
    high, wide = int(settings["size"]["height"]), int(settings["size"]["width"])
    resample, values = int(settings["resample"]), image.transpose(2, 0, 1)
    columns, rows = _grid(image.shape[:2], (high, wide), int(settings["min_patches"]), most)
    canvas = resized(values, (high * rows, wide * columns), resample)
    places = [(row * high, column * wide) for row in range(rows) for column in range(columns)]
    tiles = [canvas[:, top : top + high, left : left + wide] for top, left in places]
    if len(tiles) != 1:
        tiles.append(resized(values, (high, wide), resample))
    pixels = np.stack([scaled(tile, settings) for tile in tiles])
    return Prepared(inputs={PIXELS: pixels}, rows=rows, columns=columns)


def _grid(size: tuple[int, ...], tile: tuple[int, int], fewest: int, most: int) -> tuple[int, int]:
    """Columns and rows; of grids equally close the larger one, as long as the image fills half of it."""
    height, width = size
    if most > _MOST_TILES:
        raise ValueError(f"{most} tiles, where at most {_MOST_TILES} are tried")
    counts = range(1, most + 1)
    grids = [(columns, rows) for columns in counts for rows in counts if fewest <= columns * rows <= most]
    best, smallest = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(width / height - columns / rows)
        if difference < smallest:
            best, smallest = (columns, rows), difference
        elif difference == smallest and width * height > 0.5 * tile[0] * tile[1] * columns * rows:
            best = (columns, rows)
    return best
