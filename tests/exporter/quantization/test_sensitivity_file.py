from __future__ import annotations

import json

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.quantization.sensitivity_file import check_place, read_figures, write_figures

ORIGIN = {"schema": 6, "model": "a", "windows": "b", "candidates": {}}
STATE = {**ORIGIN, "layers": {"0": [{"names": ["q"], "kl": {"int4": 0.1}}]}, "tables": None}


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "folder" / "s.json"
    assert read_figures(path, ORIGIN) is None
    write_figures(path, STATE)
    assert read_figures(path, ORIGIN) == STATE
    assert [file.name for file in path.parent.iterdir()] == ["s.json"], "nothing unfinished is left"
    assert read_figures(None, ORIGIN) is None
    write_figures(None, STATE)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("schema", "another schema"),
        ("model", "another model"),
        ("windows", "other windows"),
        ("candidates", "other form"),
    ],
)
def test_figures_of_something_else_say_of_what(tmp_path, key, words):
    write_figures(tmp_path / "s.json", {**STATE, key: "other"})
    with pytest.raises(InputError, match=words):
        read_figures(tmp_path / "s.json", ORIGIN)
    assert read_figures(tmp_path / "s.json", {name: value for name, value in ORIGIN.items() if name != key})


def test_a_file_that_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(STATE))
    check_place(tmp_path / "s.json")
    check_place(None)
    with pytest.raises(InputError, match="sensitivity file"):
        check_place(tmp_path / "s.json" / "below.json")


def test_an_unfinished_write_leaves_what_was_there(tmp_path):
    write_figures(tmp_path / "s.json", STATE)
    (tmp_path / "s.json.partial").mkdir()
    with pytest.raises(InputError, match=r"s\.json"):
        write_figures(tmp_path / "s.json", {**STATE, "layers": {}})
    assert read_figures(tmp_path / "s.json", ORIGIN) == STATE
