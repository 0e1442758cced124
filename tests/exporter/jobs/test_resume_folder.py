"""What is finished is found again by the same export, as a whole or not at all, and by no other one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.resume_folder import ResumeFolder, open_resume_folder

KEY = {"checkpoint": {"sha256": "a"}, "plan": [1, 2]}
ARRAYS = {"codes": np.arange(12, dtype=np.uint8).reshape(3, 4), "scales": np.ones(3, np.float32)}


def opened(tmp_path: Path, **changes: object) -> ResumeFolder:
    folder = open_resume_folder(tmp_path / "out", {**KEY, **changes})
    assert folder is not None
    return folder


def test_entries_are_there_again_for_the_same_key(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.save("layer-0", ARRAYS)
    first.close()
    again = opened(tmp_path)
    assert (again.differs, again.names) == ((), ["layer-0"])
    arrays = again.load("layer-0")
    assert arrays is not None
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert again.load("layer-1") is None


def test_another_key_begins_anew_and_says_what_differs(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.save("layer-0", ARRAYS)
    first.place("statistics").mkdir()
    first.close()
    other = opened(tmp_path, plan=[1, 3])
    assert (other.differs, other.names) == (("plan",), [])
    assert not other.place("statistics").exists()
    other.close()
    assert opened(tmp_path, plan=[1, 3]).differs == ()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_entry_is_as_if_it_were_not_there(tmp_path: Path, damage: str) -> None:
    folder = opened(tmp_path)
    folder.save("layer-0", ARRAYS)
    file = folder.folder / "layer-0.npz"
    data = bytearray(file.read_bytes())
    place = data.index(ARRAYS["codes"].tobytes())
    data[place] ^= 1
    file.write_bytes({"cut": data[: len(data) // 2], "flipped": data, "empty": b""}[damage])
    assert folder.load("layer-0") is None
    assert folder.names == []


def test_a_partial_entry_is_no_entry(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    (folder.folder / "layer-0.partial").write_bytes(b"PK")
    assert folder.names == []
    assert folder.load("layer-0") is None


def test_two_exports_to_one_place_do_not_share_it(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert open_resume_folder(tmp_path / "out", KEY) is None
    first.close()
    assert open_resume_folder(tmp_path / "out", KEY) is not None


def test_nothing_stays_of_an_export_that_has_ended(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    folder.save("layer-0", ARRAYS)
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_no_half_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = opened(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match="No space left"):
        folder.save("layer-0", ARRAYS)
    assert sorted(path.name for path in folder.folder.iterdir()) == ["key.json"]


def test_a_disk_that_is_full_before_anything_is_finished_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"No space left.*--out"):
        open_resume_folder(tmp_path / "out", KEY)
