from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import numpy as np
import pytest

from jisu.runtimes.backends.ort import huge_pages
from jisu.runtimes.backends.ort.huge_pages import (
    LARGE,
    anonymous_ranges,
    are_allowed,
    collapse,
    in_huge_pages,
    large_blocks,
)

MAPS = """\
55d0c0000000-55d0c0100000 r-xp 00000000 08:01 1234 /usr/bin/python3
55d0c0200000-55d0c0a00000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0004000000 rw-p 00000000 00:00 0
7f0008000000-7f0009000000 rw-p 00000000 08:01 99 /models/a model.onnx.data
7f000a000000-7f000b000000 rw-s 00000000 00:05 42 /dev/zero (deleted)
7f000c000000-7f000c800000 r--p 00000000 00:00 0
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
"""


def test_only_writable_memory_of_no_file_is_ours() -> None:
    assert anonymous_ranges(MAPS) == [(0x55D0C0200000, 0x55D0C0A00000), (0x7F0000000000, 0x7F0004000000)]


def test_blocks_are_aligned_and_whole() -> None:
    start = 10 * LARGE
    assert large_blocks([(start - 5, start + 2 * LARGE + 7)], without=[]) == [start, start + LARGE]
    assert large_blocks([(start + 1, start + LARGE)], without=[]) == []


def test_what_was_there_before_is_left_alone() -> None:
    start = 10 * LARGE
    grown = [(start, start + 4 * LARGE)]
    assert large_blocks(grown, without=[(start, start + LARGE + 1)]) == [start + 2 * LARGE, start + 3 * LARGE]
    assert large_blocks(grown, without=grown) == []


@pytest.mark.parametrize(
    ("setting", "allowed"), [("always [madvise] never", True), ("always madvise [never]", False), (None, False)]
)
def test_the_systems_setting_is_kept_to(
    setting: str | None, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "enabled"
    if setting is not None:
        file.write_text(setting)
    monkeypatch.setattr(huge_pages, "_SETTING", file)
    monkeypatch.setattr(huge_pages.sys, "platform", "linux")
    assert are_allowed() is allowed


def test_another_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages.sys, "platform", "win32")
    monkeypatch.setattr(huge_pages, "_MAPS", Path("/nowhere"))
    with in_huge_pages():
        pass


@pytest.mark.skipif(not are_allowed(), reason="this system gives no large pages")
def test_collapsed_memory_keeps_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[list[int]] = []
    monkeypatch.setattr(huge_pages, "collapse", lambda blocks: requests.append(blocks))
    with in_huge_pages():
        memory = mmap.mmap(-1, 4 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        numbers = np.frombuffer(memory, np.uint32)
        numbers[:] = np.arange(numbers.size)
    (blocks,) = requests
    ours = [block for block in blocks if numbers.ctypes.data <= block < numbers.ctypes.data + 4 * LARGE]
    assert len(ours) >= 3
    if not collapse(ours):
        pytest.skip("this kernel cannot move memory into large pages (it needs Linux 6.1)")
    assert (numbers == np.arange(numbers.size)).all()


def test_no_time_left_moves_nothing() -> None:
    buffer = ctypes.create_string_buffer(LARGE)
    assert collapse([ctypes.addressof(buffer)], longest_seconds=-1) == 0
