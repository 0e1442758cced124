from __future__ import annotations

import mmap
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from jisu.exporter.jobs import mapped_pages
from jisu.exporter.jobs.mapped_pages import few_mapped_pages, give_back_pages, mapped_bytes, unchanged_mappings

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which pages a process has")
SIZE = 64 << 20


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    file = tmp_path / "with spaces" / "model.onnx.data"
    file.parent.mkdir()
    np.arange(SIZE // 8).tofile(file)
    return file


def read(file: Path, access: int = mmap.ACCESS_READ) -> np.ndarray:
    with file.open("rb") as opened:
        array = np.frombuffer(mmap.mmap(opened.fileno(), 0, access=access), np.int64)
    assert array.sum() == (SIZE // 8) * (SIZE // 8 - 1) // 2
    return array


@linux
@pytest.mark.parametrize("access", [mmap.ACCESS_READ, mmap.ACCESS_COPY])
def test_pages_that_were_read_are_given_back_and_read_again(numbers: Path, access: int) -> None:
    array = read(numbers, access)
    resident = mapped_bytes()
    give_back_pages([numbers])
    assert resident - mapped_bytes() > 0.9 * SIZE
    assert array[-1] == SIZE // 8 - 1


@linux
def test_what_somebody_has_written_into_stays(numbers: Path) -> None:
    array = read(numbers, mmap.ACCESS_COPY)
    array[5] = -1
    give_back_pages([numbers])
    assert array[5] == -1


@linux
def test_another_file_is_left_alone(numbers: Path, tmp_path: Path) -> None:
    array = read(numbers)
    resident = mapped_bytes()
    give_back_pages([tmp_path / "other.data"])
    assert abs(resident - mapped_bytes()) < 0.1 * SIZE
    assert array[0] == 0


@linux
def test_no_more_than_some_pages_stay_while_a_body_reads(numbers: Path) -> None:
    least = mapped_bytes()
    with few_mapped_pages([numbers], most=SIZE // 4):
        array = read(numbers)
        end = time.monotonic() + 20
        while mapped_bytes() - least >= SIZE // 4 and time.monotonic() < end:
            time.sleep(0.01)
        assert mapped_bytes() - least < SIZE // 4
    assert array[1] == 1
    threads = [thread.name for thread in threading.enumerate()]
    assert "mapped pages" not in threads


@linux
def test_what_cannot_be_given_back_is_not_asked_for_again_and_again(
    numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[object] = []
    monkeypatch.setattr(mapped_pages, "give_back_pages", requests.append)
    with few_mapped_pages([tmp_path / "other.data"], most=SIZE // 2):
        array = read(numbers)
        time.sleep(6 * mapped_pages.PERIOD_SECONDS)
    assert array[3] == 3
    assert 1 <= len(requests) <= 2


def test_a_system_that_does_not_tell_is_left_alone(numbers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_pages, "_SMAPS", Path("/nowhere"))
    with few_mapped_pages([numbers], most=0):
        assert read(numbers)[2] == 2


def test_mappings_of_a_file_are_told_by_their_whole_path(tmp_path: Path) -> None:
    file = tmp_path / "a b.data"
    entry = "{0}-{1} r--p 00000000 fe:00 77 {2}\nSize: 8 kB\nAnonymous: {3} kB\nVmFlags: rd mr\n"
    smaps = "".join(
        [
            entry.format("1000", "3000", file, 0),
            entry.format("3000", "5000", f"{file}-2", 0),
            entry.format("5000", "7000", file, 4),
            "7000-9000 rw-p 00000000 00:00 0\nAnonymous: 0 kB\n",
            entry.format("9000", "a000", file, 0),
        ]
    )
    assert unchanged_mappings(smaps, [file]) == [(0x1000, 0x3000), (0x9000, 0xA000)]
