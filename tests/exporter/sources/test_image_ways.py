"""A processor is reproduced to the last bit, or refused by its name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.image_processor import process_image
from jisu.exporter.sources.image_ways import _preparation_of, find_way, made_images
from tests.support.image_models import FAMILIES

LIMITS = {"shortest_edge": 784, "longest_edge": 12544}


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


class Bare:
    """A processor of an image class alone."""

    tokenizer = SimpleNamespace(init_kwargs={})

    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor

    def _merge_kwargs(self, **_: Any) -> dict[str, dict[str, Any]]:
        return {"images_kwargs": {}}

    def _process_images(self, images: Any, **options: Any) -> tuple[Any, list[str]]:
        return self.image_processor(images, **options), ["<image>"]


@pytest.mark.parametrize(
    ("module", "kind", "settings", "preparation"),
    [
        ("glm4v", "Glm4v", {"patch_size": 7, "size": {"shortest_edge": 3136, "longest_edge": 28224}}, "film-patches"),
        ("paddleocr_vl", "PaddleOCRVL", {"patch_size": 7, "size": LIMITS}, "line-patches"),
        ("deepseek_vl", "DeepseekVL", {"size": {"height": 56, "width": 56}}, "square"),
        ("qwen2_vl", "Qwen2VL", {"patch_size": 7, "size": LIMITS}, "patches"),
    ],
)
def test_ways_of_image_classes_are_told_apart(module: str, kind: str, settings: Any, preparation: str) -> None:
    place = import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    processor = Bare(getattr(place, f"{kind}ImageProcessorPil")(**settings))
    images = [*made_images(56), made_images(600)[3][:9, :50]]  # and one that is smaller than a block
    assert _preparation_of(images, [process_image(processor, image) for image in images]) == preparation


def test_an_image_in_other_arrays_is_refused() -> None:
    class Renamed(Bare):
        def _process_images(self, images: Any, **options: Any) -> tuple[Any, list[str]]:
            return {"frames": super()._process_images(images, **options)[0]["pixel_values"]}, ["<image>"]

    from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import DeepseekVLImageProcessorPil

    renamed = Renamed(DeepseekVLImageProcessorPil())
    with pytest.raises(InputError, match="an image in frames"):
        find_way(renamed, Path("model"), image_token=1)


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
