"""A real Ray cluster on this machine for the tests that need one, and a way to kill one of its workers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

pytest.importorskip("ray", reason="the package ray is not installed")


@contextmanager
def killing_a_worker(of: str, *, after: float = 0.0) -> Iterator[list[int]]:
    """While the body runs, end the first worker whose task's name begins so with SIGKILL; yields the ended ones."""
    killed: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while not over.is_set() and not killed:
            # Our own workers only: another process may run the same tests at the same time.
            for process in psutil.Process().children(recursive=True):
                if title(process).startswith(f"ray::{of}"):
                    time.sleep(after)
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            time.sleep(0.01)

    hunter = threading.Thread(target=hunt, daemon=True)
    hunter.start()
    try:
        yield killed
    finally:
        over.set()
        hunter.join()


def title(process: psutil.Process) -> str:
    """Its command line; nothing when it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""
