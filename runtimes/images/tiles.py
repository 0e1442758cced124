"""Large images cut into tiles of one size, line by line, with the whole image in that size behind them."""

from __future__ import annotations

import math

import numpy as np

from jisu.runtimes.images.one_size import PIXELS
from jisu.runtimes.images.pixels import Size, resized, scaled
from jisu.runtimes.images.preparation import Prepared, Settings
from jisu.runtimes.images.reading import Pixels

_LONGEST = 4096  # no image is made larger than this


def prepare_tiles(image: Pixels, settings: Settings) -> Prepared:
    """``pixel_values`` float32 [tiles, 3, edge, edge] of an image uint8 [H, W, 3]."""
    resample, edge = int(settings["resample"]), int(settings["max_image_size"]["longest_edge"])
    values = image.transpose(2, 0, 1)
    if settings.get("do_resize", True):
        values = resized(values, _first_size(values.shape[-2:], int(settings["size"]["longest_edge"])), resample)
    if not settings.get("do_image_splitting", True):
        return Prepared(inputs={PIXELS: scaled(resized(values, (edge, edge), resample), settings)[None]})
    values = resized(values, _whole_tiles(values.shape[-2:], edge), resample)
    height, width = values.shape[-2:]
    if height <= edge and width <= edge:
        return Prepared(inputs={PIXELS: scaled(values, settings)[None]})
    rows, columns = height // edge, width // edge
    places = [(row * edge, column * edge) for row in range(rows) for column in range(columns)]
    tiles = [values[:, top : top + edge, left : left + edge] for top, left in places]
    tiles.append(resized(values, (edge, edge), resample))
    pixels = np.stack([scaled(tile, settings) for tile in tiles])
    return Prepared(inputs={PIXELS: pixels}, rows=rows, columns=columns)


def _first_size(size: Size, longest: int) -> Size:
    """The longer edge brought to a length, the other one even; both at most `_LONGEST`."""
    height, width = size
    ratio = width / height
    if width >= height:
        width = longest
        height = int(width / ratio)
        height += height % 2
    else:
        height = longest
        width = int(height * ratio)
        width += width % 2
    height, width = max(height, 1), max(width, 1)
    ratio = width / height
    if width >= height and width > _LONGEST:
        width, height = _LONGEST, int(_LONGEST / ratio)
    elif height > width and height > _LONGEST:
        height, width = _LONGEST, int(_LONGEST * ratio)
    return max(height, 1), max(width, 1)


def _whole_tiles(size: Size, edge: int) -> Size:
    """Both edges a whole number of tiles, the longer one first."""
    height, width = size
    ratio = width / height
    if width >= height:
        width = math.ceil(width / edge) * edge
        height = math.ceil(int(width / ratio) / edge) * edge
    else:
        height = math.ceil(height / edge) * edge
        width = math.ceil(int(height * ratio) / edge) * edge
    return height, width
