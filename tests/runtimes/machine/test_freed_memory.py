from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from jisu.runtimes.machine.freed_memory import return_freed_memory
from jisu.runtimes.opening import load
from tests.runtimes.tiny_models import write_artifact


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory this way")
def test_freed_blocks_go_back_to_the_system() -> None:
    code = """
from pathlib import Path
from jisu.runtimes.machine.freed_memory import return_freed_memory
def resident():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmRSS")).split()[1])
blocks = [bytes(100_000) for _ in range(1000)]
last = bytes(100_000)
del blocks
before = resident()
return_freed_memory()
print(before - resident())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000  # of 97,656 kB


def test_where_the_library_cannot_be_told_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    return_freed_memory()


def test_closing_an_engine_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr("jisu.runtimes.engine.return_freed_memory", lambda: called.append(True))
    write_artifact(tmp_path / "artifact", "ort-cpu")
    load(tmp_path / "artifact", threads=1).close()
    assert called == [True]
