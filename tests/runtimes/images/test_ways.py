"""Settings that come with a folder from anywhere: what no export wrote is one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_settings import ImageSettings
from jisu.runtimes.images.ways import PREPARATIONS, prepare_image

IMAGE = np.full((9, 12, 3), 7, np.uint8)
SCALE: dict[str, Any] = {"rescale_factor": 1 / 255, "image_mean": 0.5, "image_std": 0.5, "resample": 3}
CANVAS = {**SCALE, "crop_to_patches": True, "min_patches": 1, "size": {"height": 4, "width": 4}}


def settings(preparation: str, values: dict[str, Any], **more: Any) -> ImageSettings:
    return ImageSettings(preparation=preparation, settings=values, marks={}, mark="x", image_token=1, **more)


@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_settings_that_are_missing_are_one_sentence(preparation: str) -> None:
    with pytest.raises(InputError, match="settings for images cannot be followed"):
        prepare_image(IMAGE, settings(preparation, {}))


@pytest.mark.parametrize(
    ("preparation", "values"),
    [
        ("closest-canvas", {**CANVAS, "max_patches": 10**9}),
        ("patches", {**SCALE, "patch_size": 0, "merge_size": 2, "size": {"shortest_edge": 1, "longest_edge": 99}}),
        ("one-size", {**SCALE, "size": 4}),
        ("one-size", {**SCALE, "size": {"height": 10**9, "width": 10**9}}),
        ("tiles", {**SCALE, "size": {"longest_edge": 8}, "max_image_size": {"longest_edge": 0}}),
        ("best-resolution", {**SCALE, "size": {"shortest_edge": 4}, "image_grid_pinpoints": []}),
    ],
)
def test_settings_that_no_export_wrote_are_one_sentence(preparation: str, values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        prepare_image(IMAGE, settings(preparation, values))


def test_what_follows_from_the_grid_is_added() -> None:
    values = {**SCALE, "patch_size": 2, "merge_size": 2, "temporal_patch_size": 1}
    values["size"] = {"shortest_edge": 16, "longest_edge": 4096}
    prepared = prepare_image(IMAGE, settings("patches", values, grid_inputs={"position_ids": {"merge": 2}}))
    assert len(prepared.inputs["position_ids"]) == len(prepared.inputs["pixel_values"])
    assert prepare_image(IMAGE, settings("closest-canvas", {**CANVAS, "max_patches": 4})).rows >= 1
