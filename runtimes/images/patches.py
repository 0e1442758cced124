"""Images as rows of patches of any number: resized to whole blocks of patches within limits of the number of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

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
    return _blocks(_sized(image, settings), settings)


def prepare_film_patches(image: Pixels, settings: Settings) -> Prepared:
    """The same, where the limits are those of all frames of a film, and no image is smaller than a block."""
    return _blocks(_sized(image, settings, frames=int(settings["temporal_patch_size"]), grown=_grown), settings)


def prepare_line_patches(image: Pixels, settings: Settings) -> Prepared:
    """``pixel_values`` float32 [patches, 3, edge, edge] of an image uint8 [H, W, 3], line by line.

    No image is smaller than a block; ``rows`` and ``columns`` count the blocks.
    """
    edge, merge = int(settings["patch_size"]), int(settings["merge_size"])
    if settings.get("temporal_patch_size", 1) != 1:
        raise ValueError(f"patches of {settings['temporal_patch_size']} frames")
    pixels = _sized(image, settings, grown=_grown_in_turn)
    channels, height, width = pixels.shape
    high, wide = height // edge, width // edge
    patches = pixels.reshape(channels, high, edge, wide, edge).transpose(1, 3, 0, 2, 4)
    flat = np.ascontiguousarray(patches.reshape(high * wide, channels, edge, edge))
    return Prepared(inputs={PIXELS: flat}, rows=high // merge, columns=wide // merge)


def _sized(
    image: Pixels, settings: Settings, *, frames: int = 1, grown: Callable[[Size, int], Size] | None = None
) -> npt.NDArray[np.float32]:
    """Pixels as numbers, float32 [3, H, W], whole blocks high and wide."""
    block = int(settings["patch_size"]) * int(settings["merge_size"])
    values = image.transpose(2, 0, 1)
    if settings.get("do_resize", True):
        size = settings["size"]
        start: Size = values.shape[-2:]
        target = _whole_blocks(
            start if grown is None else grown(start, block),
            block,
            fewest=int(size["shortest_edge"]),
            most=int(size["longest_edge"]),
            frames=frames,
        )
        values = resized(values, target, int(settings["resample"]))
    return scaled(values, settings)


def _grown(size: Size, block: int) -> Size:
    """At least a block high and wide, in the same aspect."""
    height, width = size
    if height >= block and width >= block:
        return size
    scale = max(block / height, block / width)
    return int(height * scale), int(width * scale)


def _grown_in_turn(size: Size, block: int) -> Size:
    """The same, the height first, each rounded."""
    height, width = size
    if height < block:
        height, width = block, round(width * block / height)
    if width < block:
        height, width = round(height * block / width), block
    return height, width


def _blocks(pixels: npt.NDArray[np.float32], settings: Settings) -> Prepared:
    """Patches of an image [3, H, W] block by block, each as often as a film has frames."""
    edge, merge = int(settings["patch_size"]), int(settings["merge_size"])
    channels, height, width = pixels.shape
    rows, columns = height // edge // merge, width // edge // merge
    blocks = pixels.reshape(channels, rows, merge, edge, columns, merge, edge).transpose(1, 4, 2, 5, 0, 3, 6)
    frames = int(settings["temporal_patch_size"])
    repeated = np.broadcast_to(blocks[:, :, :, :, :, None], (*blocks.shape[:5], frames, edge, edge))
    flat = np.ascontiguousarray(repeated.reshape(rows * columns * merge * merge, channels * frames * edge * edge))
    return Prepared(inputs={PIXELS: flat}, rows=rows, columns=columns)


def _whole_blocks(size: Size, block: int, *, fewest: int, most: int, frames: int = 1) -> Size:
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
    if frames * high * wide > most:
        shrink = math.sqrt(frames * height * width / most)
        high = max(block, math.floor(height / shrink / block) * block)
        wide = max(block, math.floor(width / shrink / block) * block)
    elif frames * high * wide < fewest:
        grow = math.sqrt(fewest / (frames * height * width))
        high, wide = math.ceil(height * grow / block) * block, math.ceil(width * grow / block) * block
    return high, wide
