from __future__ import annotations

import pytest

from jisu.benchmarks.robustness.tally import FAULTS, Tally, read_tally, table
from jisu.exporter.contract.errors import InputError


def test_faults_are_counted_with_examples():
    tally = Tally()
    for ending in ("refused", "refused", *FAULTS, *FAULTS):
        tally.add("file", ending, "how")
    assert tally.faults == 2 * len(FAULTS)
    assert tally.attempts == 2 * len(FAULTS) + 2
    assert tally.counts["file"]["refused"] == 2
    assert set(tally.examples) == {f"file: {ending}" for ending in FAULTS}


def test_counts_go_on_from_their_file(tmp_path):
    tally = Tally(made={"trial": 7})
    tally.add("file", "refused")
    tally.add("file", "hang", "a line")
    tally.write(tmp_path / "counts.json")
    actual = read_tally(tmp_path / "counts.json")
    actual.add("file", "refused")
    assert (actual.counts["file"], actual.made) == ({"refused": 2, "hang": 1}, {"trial": 7})
    assert actual.examples == {"file: hang": ["a line"]}
    assert [path.name for path in tmp_path.iterdir()] == ["counts.json"]


def test_nothing_is_made_of_no_file_and_another_file_is_refused(tmp_path):
    assert read_tally(tmp_path / "counts.json").attempts == 0
    (tmp_path / "counts.json").write_text('{"counts": []}')
    with pytest.raises(InputError, match="does not hold the counts"):
        read_tally(tmp_path / "counts.json")


def test_a_trial_has_a_line_of_all_its_files():
    tally = Tally()
    for what, ending in (("a: one", "refused"), ("a: two", "refused"), ("a: two", "hang"), ("kill b", "killed")):
        tally.add(what, ending, "how")
    lines = table(tally).splitlines()
    assert lines[2:] == ["| a | 3 | 2 refused | 1 |", "| kill b | 1 | 1 killed | 0 |", "| **all** | **4** | | **1** |"]
