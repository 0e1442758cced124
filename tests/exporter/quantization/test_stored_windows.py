from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.quantization.stored_windows import (
    RECORD,
    WINDOWS_FILE,
    StoredWindows,
    read_stored_windows,
    write_stored_windows,
)

STORED = StoredWindows(
    ids=np.arange(6).reshape(2, 3), record={"text": "a"}, seed=3, parts=("prose", "code"), model="abc"
)


def test_what_is_written_is_read(tmp_path):
    write_stored_windows(tmp_path / "new", STORED)
    actual = read_stored_windows(tmp_path / "new")
    np.testing.assert_array_equal(actual.ids, STORED.ids)
    assert (actual.record, actual.seed, actual.parts, actual.model) == ({"text": "a"}, 3, ("prose", "code"), "abc")


@pytest.mark.parametrize("name", [WINDOWS_FILE, RECORD])
def test_damaged_files_are_one_error(tmp_path, name):
    write_stored_windows(tmp_path, STORED)
    (tmp_path / name).write_bytes(b"[1]")
    with pytest.raises(InputError, match="cannot be read"):
        read_stored_windows(tmp_path)


def test_a_header_that_numpy_cannot_split_into_words_is_the_same_error(tmp_path):
    write_stored_windows(tmp_path, STORED)
    data = (tmp_path / WINDOWS_FILE).read_bytes()
    (tmp_path / WINDOWS_FILE).write_bytes(data.replace(b"(2, 3)", b"(2, 3("))
    with pytest.raises(InputError, match="cannot be read"):
        read_stored_windows(tmp_path)
