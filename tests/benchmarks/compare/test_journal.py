from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jisu.benchmarks.compare.journal import NAME, Journal, sole_run
from jisu.exporter.contract.errors import InputError

PLAN = {"trials": 3}


def test_the_same_plan_goes_on_and_another_begins_anew(tmp_path):
    Journal(tmp_path, PLAN).add({"contestant": "a"})
    again = Journal(tmp_path, PLAN)
    assert again.records == [{"contestant": "a"}]
    again.add({"contestant": "b"})
    assert len(Journal(tmp_path, PLAN).records) == 2
    assert Journal(tmp_path, {"trials": 4}).records == []
    assert Journal(tmp_path, PLAN).records == []


def test_a_line_that_was_being_written_is_dropped_and_the_next_one_is_whole(tmp_path):
    Journal(tmp_path, PLAN).add({"contestant": "a"})
    with (tmp_path / NAME).open("a") as stream:
        stream.write('{"contestant": "b", "ans')
    again = Journal(tmp_path, PLAN)
    assert again.records == [{"contestant": "a"}]
    again.add({"contestant": "c"})
    assert Journal(tmp_path, PLAN).records == [{"contestant": "a"}, {"contestant": "c"}]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]\n", b"{"])
def test_a_file_that_is_no_journal_begins_anew(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert Journal(tmp_path, PLAN).records == []


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_one_lives(tmp_path):
    with sole_run(tmp_path):
        with pytest.raises(InputError, match="Another comparison is writing its report"), sole_run(tmp_path):
            pass
        with sole_run(tmp_path, name="another.jsonl"):
            pass
    with sole_run(tmp_path):
        assert Journal(tmp_path, PLAN).records == []


def test_a_full_disk_is_an_error_for_the_user(tmp_path, monkeypatch):
    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal(tmp_path, {"trials": 1})
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match=r"No space left on device.*--out"):
        journal.add({"row": 1})
