from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.artifact import AUDIO_SETTINGS
from jisu.exporter.contract.audio_settings import AudioSettings, read_audio_settings
from jisu.exporter.contract.errors import InputError

SETTINGS = AudioSettings(
    sampling_rate=16000,
    input_name="input_features",
    dims=(80, 3000),
    window=480000,
    shortest=1600,
    hop=160,
    writes="tokens",
    languages={"en": 3},
    no_timestamps=5,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / AUDIO_SETTINGS).write_text(SETTINGS.to_json(), encoding="utf-8")
    assert read_audio_settings(tmp_path) == SETTINGS
    assert SETTINGS.first_time == 6


@pytest.mark.parametrize(
    "change",
    [
        {"sampling_rate": 0},
        {"sampling_rate": True},
        {"hop": -1},
        {"window": 1 << 40},
        {"writes": "music"},
        {"dims": [None, None]},
        {"dims": [0]},
        {"languages": {"en": -1}},
        {"languages": {"en": "3"}},
        {"unknown": 1},
    ],
)
def test_anything_else_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    stored = {**json.loads(SETTINGS.to_json()), **change}
    (tmp_path / AUDIO_SETTINGS).write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(InputError, match="does not say how this model hears"):
        read_audio_settings(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / AUDIO_SETTINGS).write_text(content, encoding="utf-8")
    with pytest.raises(InputError):
        read_audio_settings(tmp_path)
