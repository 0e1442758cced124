from __future__ import annotations

import json

import pytest

from jisu.benchmarks.robustness.damage import Damage, files_of
from jisu.benchmarks.robustness.tally import Tally
from jisu.exporter.contract.errors import InputError


def read_first(folder):
    """Answers by one file, refuses a damaged other one."""
    try:
        json.loads((folder / "b.json").read_bytes())
    except ValueError as error:
        raise InputError("Damaged.") from error
    return (folder / "a.bin").read_bytes()[:4].hex()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "whole"
    path.mkdir()
    (path / "a.bin").write_bytes(bytes(range(40)))
    (path / "b.json").write_text('{"a": [1, 2]}')
    return path


@pytest.mark.parametrize(("keeps", "endings"), [(True, {"same answer", "other answer"}), (False, {"done"})])
def test_damaged_copies_are_read_and_what_they_answer_is_compared(folder, tmp_path, keeps, endings):
    (tmp_path / "copy").mkdir()
    trial = Damage(name="trial", path=folder, read=read_first, place=tmp_path / "copy", seconds=20, keeps_answer=keeps)
    tally = Tally()
    for number in range(30):
        trial.run(number, tally)
    assert set(tally.counts) == {"trial: a.bin", "trial: b.json"}
    assert set(tally.counts["trial: a.bin"]) == endings
    assert set(tally.counts["trial: b.json"]) >= {"refused"}
    assert read_first(folder) == "00010203"


def test_what_cannot_be_read_whole_is_no_trial(folder, tmp_path):
    (folder / "b.json").write_text("{")
    (tmp_path / "copy").mkdir()
    trial = Damage(name="trial", path=folder, read=read_first, place=tmp_path / "copy", seconds=20)
    with pytest.raises(InputError, match="cannot be used to begin with"):
        trial.run(0, Tally())


def test_empty_files_and_timings_are_not_damaged(tmp_path):
    for name, text in {"config.json": "{}", "empty": "", "timings.json": "{}"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_text("a")
    assert files_of(tmp_path) == ["config.json", "inner/a"]
    assert files_of(tmp_path / "inner" / "a") == [""]
