"""Steps of preparing images, against numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.images.pixels import center_cropped, padded_to_square, resized, scaled, target_size


def image(height: int, width: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.arange(3 * height * width, dtype=np.uint8).reshape(3, height, width)


def test_sizes_keep_the_aspect_they_are_to_keep() -> None:
    assert target_size(image(10, 20), {"shortest_edge": 5}) == (5, 10)
    assert target_size(image(20, 10), {"shortest_edge": 5}) == (10, 5)
    assert target_size(image(10, 40), {"shortest_edge": 10, "longest_edge": 20}) == (5, 20)
    assert target_size(image(10, 20), {"max_height": 5, "max_width": 20}) == (5, 10)
    assert target_size(image(10, 20), {"height": 3, "width": 4}) == (3, 4)


def test_a_crop_larger_than_the_image_is_filled_up() -> None:
    assert np.array_equal(center_cropped(image(4, 4), (2, 2)), image(4, 4)[:, 1:3, 1:3])
    larger = center_cropped(image(2, 2), (4, 3))
    assert larger.shape == (3, 4, 3)
    assert np.array_equal(larger[:, 1:3, 1:3], image(2, 2))
    assert larger[:, 0].sum() == 0


def test_a_square_has_the_image_in_its_middle() -> None:
    square = padded_to_square(image(2, 4), (9, 8, 7))
    assert square.shape == (3, 4, 4)
    assert square[:, 0, 0].tolist() == [9, 8, 7]
    assert np.array_equal(square[:, 1:3], image(2, 4))


def test_pixels_are_scaled_channel_by_channel() -> None:
    settings = {"rescale_factor": 1 / 255, "image_mean": [0.0, 0.5, 1.0], "image_std": [1.0, 0.5, 0.25]}
    white = np.full((3, 1, 1), 255, np.uint8)
    assert scaled(white, settings).ravel().tolist() == [1.0, 1.0, 0.0]
    assert scaled(white, {"do_rescale": False, "do_normalize": False}).ravel().tolist() == [255.0] * 3


def test_a_constant_image_stays_constant_in_any_size() -> None:
    assert (resized(np.full((3, 5, 7), 90, np.uint8), (11, 3), 3) == 90).all()


def test_a_line_of_pixels_does_not_become_a_bomb() -> None:
    line = np.zeros((3, 1, 9000), np.uint8)
    with pytest.raises(InputError, match="too narrow"):
        resized(line, target_size(line, {"shortest_edge": 336}), 3)
    with pytest.raises(InputError, match="too narrow"):
        resized(line, (0, 5), 3)
