"""Images in nearly their own size: no longer than a limit, and a whole number of patches high and wide."""

from __future__ import annotations

import math

from jisu.runtimes.images.one_size import PIXELS
from jisu.runtimes.images.pixels import center_cropped, resized, scaled
from jisu.runtimes.images.preparation import Prepared, Settings
from jisu.runtimes.images.reading import Pixels


def prepare_whole_patches(image: Pixels, settings: Settings) -> Prepared:
    """``pixel_values`` float32 [1, 3, H, W] of an image uint8 [H, W, 3]; rows and columns count its patches."""
    patch = settings["patch_size"]
    high, wide = (int(patch[name]) for name in ("height", "width")) if isinstance(patch, dict) else (int(patch),) * 2
    values = image.transpose(2, 0, 1)
    if settings.get("do_resize", True):
        size = settings["size"]
        longest = size.get("longest_edge")
        most = (longest, longest) if longest else (size["height"], size["width"])
        height, width = values.shape[-2:]
        ratio = max(height / most[0], width / most[1])
        if ratio > 1:
            height, width = math.floor(height / ratio), math.floor(width / ratio)
        target = (((height - 1) // high + 1) * high, ((width - 1) // wide + 1) * wide)
        values = resized(values, target, int(settings["resample"]))
    if settings.get("do_center_crop"):
        crop = settings["crop_size"]
        values = center_cropped(values, (int(crop["height"]), int(crop["width"])))
    pixels = scaled(values, settings)[None]
    return Prepared(inputs={PIXELS: pixels}, rows=pixels.shape[2] // high, columns=pixels.shape[3] // wide)
