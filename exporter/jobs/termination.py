"""How a command ends on request: SIGTERM unwinds it like Ctrl-C, so that nothing half-written stays."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

TERMINATED = 143  # 128 + SIGTERM, what a shell reports for a program ended that way


@contextlib.contextmanager
def ending_cleanly() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in the body, with `TERMINATED` whatever a library between makes of it.

    A handler that somebody has set stays; and only the main thread may set one, any other goes on without.
    """
    requested = False

    def end(number: int, frame: object) -> NoReturn:
        nonlocal requested
        requested = True
        raise SystemExit(TERMINATED)

    with keeping_the_ending():
        if _may_set() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, end)
        try:
            yield
        except BaseException:
            if requested:  # Ray, that was waiting, raises one with 1 instead
                raise SystemExit(TERMINATED) from None
            raise


@contextlib.contextmanager
def keeping_the_ending() -> Iterator[None]:
    """Afterwards SIGTERM does what it did before, whatever a library has made of it in the body."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if _may_set():
            signal.signal(signal.SIGTERM, before)


def _may_set() -> bool:
    return threading.current_thread() is threading.main_thread()
