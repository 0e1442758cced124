"""Images as rows of patches of any number: resized to whole blocks of patches within limits of the number of pixels."""

from __future__ import annotations

import math

import numpy as np

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.images.one_size import PIXELS
from jisu.runtimes.images.pixels import Size, resized, scaled
from jisu.runtimes.images.preparation import Prepared, Settings
from jisu.runtimes.images.reading import Pixels

_LONGEST_SHAPE = 200  # how many times the longer edge may be the shorter one


def prepare_patches(image: Pixels, settings: Settings) -> Prepared:
    """``pixel_values`` float32 [patches, 3 * frames * edge * edge] of an image uint8 [H, W, 3].

    Patches are in blocks that become one token, block by block; ``rows`` and ``columns`` count the blocks. An image is
    repeated for each frame that a patch of a film has.
    """
    edge, merge = int(settings["patch_size"]), int(settings["merge_size"])
    values = image.transpose(2, 0, 1)
    if settings.get("do_resize", True):
        size = settings["size"]
        target = _whole_blocks(
            values.shape[-2:], edge * merge, fewest=int(size["shortest_edge"]), most=int(size["longest_edge"])
        )
        values = resized(values, target, int(settings["resample"]))
    pixels = scaled(values, settings)
    channels, height, width = pixels.shape
    rows, columns = height // edge // merge, width // edge // merge
    blocks = pixels.reshape(channels, rows, merge, edge, columns, merge, edge).transpose(1, 4, 2, 5, 0, 3, 6)
    frames = int(settings["temporal_patch_size"])
    repeated = np.broadcast_to(blocks[:, :, :, :, :, None], (*blocks.shape[:5], frames, edge, edge))
    flat = np.ascontiguousarray(repeated.reshape(rows * columns * merge * merge, channels * frames * edge * edge))
    return Prepared(inputs={PIXELS: flat}, rows=rows, columns=columns)


def _whole_blocks(size: Size, block: int, *, fewest: int, most: int) -> Size:
    """Both edges a whole number of blocks, with between the fewest and the most pixels, the aspect nearly kept."""
    height, width = size
    if max(height, width) / min(height, width) > _LONGEST_SHAPE:
        raise InputError(
            "The image is too long for the model",
            received=f"{width} x {height}",
            allowed=f"a longer edge of at most {_LONGEST_SHAPE} times the shorter one",
            fix="Cut it into several images.",
        )
    high, wide = round(height / block) * block, round(width / block) * block
    if high * wide > most:
        shrink = math.sqrt(height * width / most)
        high = max(block, math.floor(height / shrink / block) * block)
        wide = max(block, math.floor(width / shrink / block) * block)
    elif high * wide < fewest:
        grow = math.sqrt(fewest / (height * width))
        high, wide = math.ceil(height * grow / block) * block, math.ceil(width * grow / block) * block
    return high, wide
