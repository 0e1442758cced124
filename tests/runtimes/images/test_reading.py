"""What becomes of image files of all sorts, and which are refused before memory is taken for them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.images.reading import read_image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(mode: str = "RGB") -> Image.Image:
    array = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    return Image.fromarray(array).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "LA"])
def test_modes_become_three_channels(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    pixels = read_image(encoded(picture(mode), kind))
    assert pixels.shape == (5, 7, 3)
    assert pixels.dtype == np.uint8


def test_alpha_lies_on_white() -> None:
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert (read_image(encoded(clear)) == 255).all()


def test_paths_bytes_arrays_and_pictures_are_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture()))
    expected = np.asarray(picture())
    for one in (path, str(path), path.read_bytes(), picture(), expected):
        assert np.array_equal(read_image(one), expected)
    assert read_image(expected[:, :, 0]).shape == (5, 7, 3)


def test_a_camera_that_lay_on_its_side_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(encoded(picture(), "JPEG", exif=exif)).shape == (7, 5, 3)


def test_a_truncated_file_is_refused() -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)))
    with pytest.raises(InputError, match="cannot be decoded"):
        read_image(whole[: len(whole) // 2], name="a.png")


def test_a_bomb_of_pixels_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    with pytest.raises(InputError, match="too many pixels"):
        read_image(bomb)
    header = struct.pack(">IIBBBBB", 11_000, 11_000, 1, 0, 0, 0, 0)
    smaller = bomb.replace(bomb[16:29], header)
    with pytest.raises(InputError, match="too many pixels|cannot be read"):
        read_image(smaller)


def test_sixteen_bits_are_refused() -> None:
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(InputError, match="more than 8 bits"):
        read_image(encoded(deep))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"no image", "cannot be read"),
        (b"", "cannot be read"),
        ("/nowhere/a.png", "cannot be read"),
        (3, "is no image"),
        (None, "is no image"),
        (np.zeros((3, 5, 5), np.uint8), "not an array of pixels"),
        (np.zeros((4, 4, 3), np.float32), "not an array of pixels"),
        (np.zeros((0, 4, 3), np.uint8), "not an array of pixels"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_image(image)


def test_an_image_is_named_by_its_path_and_never_by_an_object(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)))
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"Image 2 \(.*half\.png\) cannot be decoded"):
        read_image(tmp_path / "half.png", name="Image 2")
    with pytest.raises(InputError, match=r"The image cannot be read\. Received: a file of another kind\."):
        read_image(b"a text", name="The image")
