"""One handle at a time holds a folder, until it is closed."""

from __future__ import annotations

import os
from pathlib import Path

from jisu.exporter.jobs.folder_lock import lock_folder


def test_a_folder_has_one_lock(tmp_path: Path) -> None:
    handle = lock_folder(tmp_path)
    assert handle is not None
    assert lock_folder(tmp_path) is None
    os.close(handle)
    again = lock_folder(tmp_path)
    assert again is not None
    os.close(again)


def test_a_folder_that_is_gone_has_none(tmp_path: Path) -> None:
    assert lock_folder(tmp_path / "gone") is None
