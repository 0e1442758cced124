from __future__ import annotations

import ctypes
import sys

import numpy as np
import pytest

from jisu.exporter.jobs.free_memory import give_back_freed
from jisu.exporter.jobs.peak_memory import resident_bytes

pytest.importorskip("psutil", reason="tells how much is resident")
glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps and trims"
)


@glibc
def test_freed_memory_goes_back_although_something_behind_it_is_in_use() -> None:
    pieces = [np.ones(100_000, np.uint8) for _ in range(2000)]
    last = np.ones(100_000, np.uint8)
    full = resident_bytes()
    pieces.clear()
    give_back_freed()
    assert full - resident_bytes() > 150_000_000
    assert last.all()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)
    give_back_freed()
