"""Opens what a caller gives as an image, and refuses what cannot be one before memory is taken for it."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.exporter.contract.naming import shown

Pixels = npt.NDArray[np.uint8]
# Of one image; beyond it a few kilobytes of a file may ask for gigabytes of memory.
MOST_PIXELS = 100_000_000
_DEEP = ("I", "F")  # beginnings of the modes with more than 8 bits for a channel
_ALLOWED = (
    "a path or bytes of a PNG, JPEG, WebP, GIF, BMP or TIFF file, an image of Pillow, or uint8 [H, W] or [H, W, 3]"
)


def read_image(image: Any, *, name: str = "image") -> Pixels:
    """An image as uint8 [H, W, 3], turned as its camera says; alpha lies on white, as transformers has it.

    Args:
        image: a path, the bytes of a file, an image of Pillow, or an array uint8 [H, W], [H, W, 3] or [H, W, 4].
        name: of the image in an error.

    Raises:
        InputError: it cannot be read, is truncated, empty or larger than `MOST_PIXELS`, or has more than 8 bits.
        MissingDependencyError: Pillow is not installed.
    """
    library = pillow()
    name = f"{name} ({image})" if isinstance(image, (str, os.PathLike)) else name
    opened = _opened(library, image, name)
    width, height = opened.size
    if not 0 < width * height <= MOST_PIXELS:
        raise InputError(
            f"{name} has too many pixels" if width * height else f"{name} is empty",
            received=f"{width} x {height}",
            allowed=f"1 to {MOST_PIXELS} pixels",
            fix="Make it smaller; models read far fewer.",
        )
    if opened.mode.startswith(_DEEP):
        raise InputError(
            f"{name} has more than 8 bits for a channel",
            received=f"mode {opened.mode}",
            allowed="grey, palette, RGB or CMYK of 8 bits, with or without alpha",
            fix="Convert it to 8 bits, so that it is clear what is black and what is white.",
        )
    try:
        opened.load()
        turned = library.ImageOps.exif_transpose(opened)
        return _rgb(library, turned)
    except Exception as error:
        raise InputError(
            f"{name} cannot be decoded",
            received=f"{type(error).__name__}: {error}",
            allowed="a whole image file",
            fix="Copy or download it again.",
        ) from error


def pillow() -> Any:
    """Pillow, with the modules that are needed."""
    try:
        import PIL
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise MissingDependencyError("pillow", extra="images", needed_for="Reading images") from error
    return PIL


def _opened(library: Any, image: Any, name: str) -> Any:
    if isinstance(image, library.Image.Image):
        return image
    if isinstance(image, np.ndarray):
        if (
            image.dtype == np.uint8
            and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4)))
            and image.size
        ):
            return library.Image.fromarray(np.ascontiguousarray(image))
        raise InputError(
            f"{name} is not an array of pixels",
            received=f"{image.dtype} {list(image.shape)}",
            allowed="uint8 [H, W], [H, W, 3] or [H, W, 4]",
            fix="Convert it; transposes and scales are not guessed.",
        )
    if not isinstance(image, (str, os.PathLike, bytes)):
        raise InputError(f"{name} is no image", received=shown(image), allowed=_ALLOWED, fix="Give one of these.")
    source = io.BytesIO(image) if isinstance(image, bytes) else Path(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are checked
            return library.Image.open(source)
    except library.Image.DecompressionBombError as error:
        raise InputError(
            f"{name} has too many pixels",
            received=str(error).partition(",")[0],
            allowed=f"at most {MOST_PIXELS} pixels",
            fix="Make it smaller; models read far fewer.",
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{name} cannot be read",
            received=getattr(error, "strerror", None) or _misread(library, error),
            allowed=_ALLOWED,
            fix="Check the path and the file.",
        ) from error


def _misread(library: Any, error: Exception) -> str:
    """The library's words, which may be the name of a file alone, or of an object."""
    return "a file of another kind" if isinstance(error, library.UnidentifiedImageError) else str(error)


def _rgb(library: Any, image: Any) -> Pixels:
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        white = library.Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = library.Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"), dtype=np.uint8)
