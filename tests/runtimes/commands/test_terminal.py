"""Lines from a real pseudo terminal, whose mode changes when somebody edits a line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jisu

pty = pytest.importorskip("pty", reason="this system has no pseudo terminals")

ROOT = Path(jisu.__file__).parents[1]
# Reads a line, is busy as if it were answering until the test has typed on, and reads until the end.
PROGRAM = """
import sys
from jisu.runtimes.commands.terminal import edit_lines, read_line
edit_lines()
print("first", read_line("> "), flush=True)
open(sys.argv[1]).read()
try:
    while True:
        print("then", read_line("> "), flush=True)
except EOFError:
    print("the end", flush=True)
"""


@pytest.mark.parametrize(
    ("typed", "lines"), [(b"\x04", []), (b"two\n\x04", ["two"]), (b"two\nthree\n\x04", ["two", "three"])]
)
def test_what_is_typed_during_an_answer_is_read_after_it(tmp_path: Path, typed: bytes, lines: list[str]) -> None:
    busy = tmp_path / "busy"
    os.mkfifo(busy)
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(busy)], stdin=inner, stdout=inner, stderr=inner, cwd=ROOT, close_fds=True
    )
    os.close(inner)
    try:
        shown = read_until(outer, "> ")
        os.write(outer, b"one\n")
        shown += read_until(outer, "first one")
        os.write(outer, typed)
        time.sleep(0.2)  # the terminal has nothing that would tell when it has taken the keys
        busy.write_text("", encoding="utf-8")
        shown += read_until(outer, "the end")
        assert [line for line in lines if f"then {line}" not in shown] == []
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(outer)


def read_until(terminal: int, expected: str) -> str:
    """What the program shows until it has shown ``wanted``; fails when that takes long."""
    import select

    shown = ""
    while expected not in shown:
        assert select.select([terminal], [], [], 20)[0], f"waited for {expected!r}, saw {shown!r}"
        shown += os.read(terminal, 4096).decode()
    return shown
