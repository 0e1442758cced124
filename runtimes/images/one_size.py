"""Every image in one size: filled up to a square, resized and cropped as the settings say."""

from __future__ import annotations

from jisu.runtimes.images.pixels import center_cropped, padded_to_square, resized, scaled, target_size
from jisu.runtimes.images.preparation import Prepared, Settings
from jisu.runtimes.images.reading import Pixels

PIXELS = "pixel_values"


def prepare_one_size(image: Pixels, settings: Settings) -> Prepared:
    """``pixel_values`` float32 [1, 3, H, W] of an image uint8 [H, W, 3]."""
    values = image.transpose(2, 0, 1)
    if settings.get("do_pad"):
        mean = settings.get("image_mean")
        values = padded_to_square(values, tuple(int(one * 255) for one in mean) if mean else (0,))
    if settings.get("do_resize", True):
        values = resized(values, target_size(values, settings["size"]), int(settings["resample"]))
    if settings.get("do_center_crop"):
        crop = settings["crop_size"]
        values = center_cropped(values, (int(crop["height"]), int(crop["width"])))
    return Prepared(inputs={PIXELS: scaled(values, settings)[None]})


def prepare_square(image: Pixels, settings: Settings) -> Prepared:
    """The same, where the longer edge is brought to the size first, and the image filled up to a square then."""
    edge, least = int(settings["size"]["height"]), int(settings["min_size"])
    values = image.transpose(2, 0, 1)
    if settings.get("do_resize", True):
        height, width = values.shape[-2:]
        scale = edge / max(height, width)
        target = max(round(height * scale), least), max(round(width * scale), least)
        values = resized(values, target, int(settings["resample"]))
    if settings.get("do_pad", True):
        mean = settings.get("image_mean")
        values = padded_to_square(values, tuple(int(one * 255) for one in mean) if mean else (127, 127, 127))
    return Prepared(inputs={PIXELS: scaled(values, settings)[None]})
