from __future__ import annotations

import errno

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.output_path import cannot_write, check_name, check_parent, scratch_folder, try_to_write


@pytest.mark.parametrize("name", ["x" * 256, "a\0b", "bad\udcff"])
def test_a_name_nobody_can_have_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot be used"):
        check_name(tmp_path / name)


def test_the_temporary_name_has_to_fit_too(tmp_path):
    check_name(tmp_path / ("x" * 247))
    with pytest.raises(InputError, match="at most 247 bytes"):
        check_name(tmp_path / ("x" * 248))


def test_a_file_where_a_folder_is_needed_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="received a file|Received: a file"):
        check_parent(tmp_path / "file" / "out")
    check_parent(tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_a_probe_leaves_nothing_behind(tmp_path):
    try_to_write(tmp_path / "a" / "b" / "out.json", what="file", option="--out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.json.partial").write_text("of an earlier run")
    try_to_write(tmp_path / "out.json", what="file", option="--out")
    assert (tmp_path / "out.json.partial").read_text() == "of an earlier run"


def test_a_probe_that_fails_says_what_the_system_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Not a directory|exists"):
        try_to_write(tmp_path / "file" / "out.json", what="sensitivity file", option="--sensitivity")


def test_the_systems_words_are_in_the_message(tmp_path):
    error = cannot_write(tmp_path, OSError(errno.ENOSPC, "No space left on device"), what="statistics", option="--out")
    assert "No space left on device" in str(error)
    assert "--out" in str(error)


def test_scratch_files_lie_in_the_nearest_folder_that_takes_them(tmp_path):
    assert scratch_folder(tmp_path / "a" / "b" / "out") == tmp_path
    (tmp_path / "file").write_text("")
    assert scratch_folder(tmp_path / "file" / "out") is None
