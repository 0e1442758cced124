"""The file that says how recordings become tokens, written and read back, and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.recording_settings import RecordingSettings, read_recording_settings

SETTINGS = RecordingSettings(
    preparation="one-window",
    frames="begun",
    mask="feature_attention_mask",
    mask_type="int32",
    marks={"before": "", "token": "<audio>", "after": ""},
    mark="<audio>",
    audio_token=7,
    longest=None,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "recordings.json").write_text(SETTINGS.to_json())
    assert read_recording_settings(tmp_path / "recordings.json") == SETTINGS


@pytest.mark.parametrize(
    "change",
    [
        {"audio_token": "7"},
        {"audio_token": True},
        {"marks": {"token": "a"}},
        {"marks": {"before": 1, "token": "a", "after": ""}},
        {"mask": 3},
        {"mask_type": "float32"},
        {"longest": 0},
        {"longest": 1.5},
        {"most": 0},
        {"multiple": 0},
        {"multiple": None},
        {"separate": 1},
        {"unknown": 1},
    ],
)
def test_anything_else_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "recordings.json"
    path.write_text(json.dumps({**json.loads(SETTINGS.to_json()), **change}))
    with pytest.raises(InputError, match="does not say how recordings become tokens"):
        read_recording_settings(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not say how recordings become tokens"):
        read_recording_settings(tmp_path / "recordings.json")
