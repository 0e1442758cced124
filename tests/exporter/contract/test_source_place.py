from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.exporter.contract.source_place import SourcePlace, place_of, read_place, without_paths

FOLDER = {"kind": "hf-folder", "name": "/home/me/models/llama", "adapters": ["/home/me/lora"], "files": {"a": 1}}


def test_a_record_names_what_it_was_made_from_and_no_place() -> None:
    assert without_paths(FOLDER) == {"kind": "hf-folder", "name": "llama", "adapters": ["lora"], "files": {"a": 1}}
    assert place_of(FOLDER) == SourcePlace(checkpoint="/home/me/models/llama", adapters=["/home/me/lora"])
    assert "/home" in str(FOLDER)  # the record itself stays


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "hf-hub", "name": "org/name"},
        {"kind": "factory", "name": "package.module:build"},
        {"kind": "module", "name": "Recurrent"},
    ],
)
def test_a_name_that_is_no_path_stays(record: dict[str, str]) -> None:
    assert without_paths(record) == record
    assert place_of(record) == SourcePlace()


def test_a_relative_path_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of({"kind": "gguf", "name": "model.gguf"}).checkpoint == str(tmp_path / "model.gguf")
    assert without_paths({"kind": "hf-folder", "name": "."})["name"] == tmp_path.name


def test_what_was_written_is_read_and_anything_else_is_no_place(tmp_path: Path) -> None:
    assert read_place(tmp_path) == SourcePlace()
    place = place_of(FOLDER)
    (tmp_path / "timings.json").write_text(json.dumps({"seconds": 3, **place.to_dict()}))
    assert read_place(tmp_path) == place
    for text in ("", "[]", "3", '{"places": 3}', '{"places": {"checkpoint": 3, "adapters": []}}', '{"places": {}}'):
        (tmp_path / "timings.json").write_text(text)
        assert read_place(tmp_path) == SourcePlace()
