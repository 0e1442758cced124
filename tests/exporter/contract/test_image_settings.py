"""The file that says how images are prepared, written and read back, and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_settings import ImageSettings, read_image_settings

SETTINGS = ImageSettings(preparation="tiles", settings={"a": 1}, marks={"rule": "run"}, mark="<image>", image_token=7)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_text(SETTINGS.to_json())
    assert read_image_settings(tmp_path / "images.json") == SETTINGS


@pytest.mark.parametrize(
    "change",
    [
        {"image_token": "7"},
        {"image_token": True},
        {"marks": []},
        {"unknown": 1},
        {"merge": 2.5},
        {"preparation": None},
        {"types": {"image": 1}},
        {"types": {"image": True, "text": 0}},
        {"types": [1]},
        {"layout": {"before": "", "mark": "", "end": 1}},
        {"layout": {"end": ""}},
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "images.json"
    path.write_text(json.dumps({**json.loads(SETTINGS.to_json()), **change}))
    with pytest.raises(InputError, match="does not say how images are prepared"):
        read_image_settings(path)


def test_no_file_and_no_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    with pytest.raises(InputError):
        read_image_settings(path)
    path.write_text("[")
    with pytest.raises(InputError):
        read_image_settings(path)
