"""A processor is reproduced to the last bit, or refused by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.image_ways import find_way, made_images
from tests.support.image_models import FAMILIES


@pytest.fixture(scope="module")
def processor() -> Any:
    return FAMILIES["idefics3"]()[1]


def test_made_images_differ_in_shape_and_repeat() -> None:
    images = made_images(28)
    assert len({image.shape for image in images}) == len(images)
    assert all((one == other).all() for one, other in zip(images, made_images(28), strict=True))


def test_a_way_is_found_by_what_it_does(processor: Any) -> None:
    way = find_way(processor, Path("model"), image_token=processor.image_token_id)
    assert way.preparation == "tiles"
    assert way.marks["rule"] == "tiles"
    assert way.marks["tile"] == "<fake_token_around_image><row_{row}_col_{column}>"


@pytest.mark.parametrize(
    ("family", "preparation", "rule"),
    [
        ("llava", "one-size", "run"),
        ("llava_next", "best-resolution", "run"),
        ("internvl", "closest-canvas", "run"),
        ("qwen2_vl", "patches", "run"),
        ("mistral3", "whole-patches", "lines"),
    ],
)
def test_each_way_is_somebodys(family: str, preparation: str, rule: str) -> None:
    processor = FAMILIES[family]()[1]
    token = processor.image_token_id
    way = find_way(processor, Path("model"), image_token=token if isinstance(token, int) else token[0])
    assert (way.preparation, way.marks["rule"]) == (preparation, rule)


def test_other_pixels_are_refused_by_the_processors_name(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = processor.image_processor
    own = images.normalize
    monkeypatch.setattr(images, "normalize", lambda image, mean, std: own(image, mean, std) * 1.0001)
    with pytest.raises(InputError, match="Idefics3Processor with Idefics3ImageProcessorPil.*cannot be reproduced"):
        find_way(processor, Path("model"), image_token=processor.image_token_id)


def test_marks_of_no_rule_are_refused(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = processor.replace_image_token
    monkeypatch.setattr(processor, "replace_image_token", lambda *a, **k: own(*a, **k) + str(a[0]["rows"][0][0]))
    with pytest.raises(InputError, match="a text of its own for an image"):
        find_way(processor, Path("model"), image_token=processor.image_token_id)
