"""Steps that all preparation of images is made of, on arrays [3, H, W], with the arithmetic of transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.images.reading import MOST_PIXELS, pillow

Array = npt.NDArray[Any]
Size = tuple[int, int]  # height, width


def resized(image: Array, size: Size, resample: int) -> Array:
    """uint8 [3, H, W] in another size, by Pillow's filter of this number."""
    library = pillow()
    if not (size[0] > 0 and size[1] > 0 and size[0] * size[1] <= MOST_PIXELS):
        raise InputError(
            "The image is too narrow for the model",
            received=f"{image.shape[2]} x {image.shape[1]}, which would become {size[1]} x {size[0]}",
            allowed=f"1 to {MOST_PIXELS} pixels in the size that the model reads",
            fix="Cut it into several images.",
        )
    picture = library.Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    height, width = size
    changed: Array = np.asarray(picture.resize((width, height), resample=resample)).transpose(2, 0, 1)
    return changed


def target_size(image: Array, size: Mapping[str, Any]) -> Size:
    """What the fields of a size mean for an image: height and width, a shortest edge, or the most of both."""
    height, width = image.shape[-2:]
    if size.get("shortest_edge") and size.get("longest_edge"):
        return _between(height, width, int(size["shortest_edge"]), int(size["longest_edge"]))
    if shortest := size.get("shortest_edge"):
        long = int(shortest * max(height, width) / min(height, width))
        return (long, shortest) if width <= height else (shortest, long)
    if size.get("max_height") and size.get("max_width"):
        scale = min(size["max_height"] / height, size["max_width"] / width)
        return int(height * scale), int(width * scale)
    return int(size["height"]), int(size["width"])


def _between(height: int, width: int, shortest: int, longest: int) -> Size:
    low, high = float(min(height, width)), float(max(height, width))
    raw: float = shortest
    if high / low * shortest > longest:
        raw = longest * low / high
        shortest = round(raw)
    if min(height, width) == shortest:
        return height, width
    if width < height:
        return int(raw * height / width), shortest
    return shortest, int(raw * width / height)


def center_cropped(image: Array, size: Size) -> Array:
    """The middle of an image, with zeros around it where it is smaller."""
    height, width = image.shape[-2:]
    high, wide = size
    top, left = (height - high) // 2, (width - wide) // 2
    if top >= 0 and left >= 0:
        return image[..., top : top + high, left : left + wide]
    canvas = np.zeros((*image.shape[:-2], max(high, height), max(wide, width)), image.dtype)
    above, before = math.ceil((canvas.shape[-2] - height) / 2), math.ceil((canvas.shape[-1] - width) / 2)
    canvas[..., above : above + height, before : before + width] = image
    top, left = top + above, left + before
    return canvas[..., max(0, top) : top + high, max(0, left) : left + wide]


def padded_to_square(image: Array, colors: tuple[int, ...]) -> Array:
    """An image in the middle of a square of its longer edge."""
    channels, height, width = image.shape
    edge = max(height, width)
    square = np.zeros((channels, edge, edge), image.dtype)
    square[...] = np.array(colors, image.dtype).reshape(-1, 1, 1)
    top, left = (edge - height) // 2, (edge - width) // 2
    square[:, top : top + height, left : left + width] = image
    return square


def scaled(image: Array, settings: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Pixels as numbers around zero, float32: multiplied by the factor, less the mean, divided by the deviation."""
    values: Array = image
    if settings.get("do_rescale", True):
        values = (values.astype(np.float64) * settings["rescale_factor"]).astype(np.float32)
    if settings.get("do_normalize", True):
        values = values.astype(np.float32) if not np.issubdtype(values.dtype, np.floating) else values
        mean, deviation = (_of_channels(settings[name], values) for name in ("image_mean", "image_std"))
        values = ((values.T - mean) / deviation).T
    return np.ascontiguousarray(values, dtype=np.float32)


def _of_channels(value: Any, image: Array) -> Array:
    listed = list(value) if isinstance(value, (list, tuple)) else [value] * image.shape[0]
    return np.array(listed, image.dtype)
