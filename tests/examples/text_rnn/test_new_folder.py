from __future__ import annotations

import pytest

from examples.text_rnn.new_folder import write_folder
from jisu.exporter.contract.errors import InputError


def test_folder_appears_whole_or_not_at_all(tmp_path):
    with write_folder(tmp_path / "a" / "new") as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "a" / "new").exists()
    assert (tmp_path / "a" / "new" / "file").read_text() == "x"
    with pytest.raises(ValueError, match="in between"), write_folder(tmp_path / "b") as folder:
        (folder / "file").write_text("x")
        raise ValueError("in between")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_lies_there_is_never_touched(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "file").write_text("x")
    for out, message in (("taken", "exists already"), ("other", "in the way"), ("file/inside", "cannot be written")):
        with pytest.raises(InputError, match=message), write_folder(tmp_path / out):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other.partial", "taken"]
