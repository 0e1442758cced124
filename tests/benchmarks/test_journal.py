from __future__ import annotations

import pytest

from benchmarks.journal import NAME, Journal

PLAN = {"trials": 3}


def test_the_same_plan_goes_on_and_another_begins_anew(tmp_path):
    Journal(tmp_path, PLAN).add({"candidate": "a"})
    again = Journal(tmp_path, PLAN)
    assert again.records == [{"candidate": "a"}]
    again.add({"candidate": "b"})
    assert len(Journal(tmp_path, PLAN).records) == 2
    assert Journal(tmp_path, {"trials": 4}).records == []
    assert Journal(tmp_path, PLAN).records == []


def test_a_line_that_was_being_written_is_dropped_and_the_next_one_is_whole(tmp_path):
    Journal(tmp_path, PLAN).add({"candidate": "a"})
    with (tmp_path / NAME).open("a") as stream:
        stream.write('{"candidate": "b", "ans')
    again = Journal(tmp_path, PLAN)
    assert again.records == [{"candidate": "a"}]
    again.add({"candidate": "c"})
    assert Journal(tmp_path, PLAN).records == [{"candidate": "a"}, {"candidate": "c"}]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]\n", b"{"])
def test_a_file_that_is_no_journal_begins_anew(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert Journal(tmp_path, PLAN).records == []
