"""Holds a job to a limit of resident memory: gives back what can be, and ends a job that still exceeds it, cleanly.

A thread looks often; what is held for a shorter moment than that is not seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.peak_memory import resident_bytes

PERIOD_SECONDS = 0.02
# How long the ended job has to reach a place where Python may interrupt it, before it is asked again.
_AGAIN_SECONDS = 10.0


class _ExceededError(BaseException):
    """Ends the job from outside; not an Exception, so that no check takes it for an answer."""


@contextlib.contextmanager
def memory_limit(
    limit: int | None,
    *,
    relieve: Callable[[], None],
    doing: Callable[[], str],
    measure: Callable[[], int] = resident_bytes,
) -> Iterator[None]:
    """Run the body within a limit, in bytes; None for none.

    Args:
        relieve: gives back what can be had again; called when the limit is reached.
        doing: what is being done, for the message.
        measure: bytes that the process holds.

    Raises:
        InputError: the body held more.
    """
    if limit is None:
        yield
        return
    watch = _Watch(limit, relieve=relieve, doing=doing, measure=measure)
    watch.start()
    try:
        try:
            yield
        finally:
            watch.stop()
    except _ExceededError:
        pass
    while not watch.stopped:  # one that was under way may come at any call
        with contextlib.suppress(_ExceededError):
            watch.stop()
    watch.refuse_exceeded()


class _Watch(threading.Thread):
    def __init__(
        self, limit: int, *, relieve: Callable[[], None], doing: Callable[[], str], measure: Callable[[], int]
    ) -> None:
        super().__init__(name="memory limit", daemon=True)
        self._limit, self._relieve, self._doing, self._measure = limit, relieve, doing, measure
        self._job = threading.get_ident()
        self._ended = threading.Event()
        self._held: tuple[int, str] | None = None
        self.stopped = False

    def run(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            if self._measure() <= self._limit:
                continue
            self._relieve()
            held = self._measure()
            if held > self._limit:
                self._held = (held, self._doing())
                self._end_job()
                return

    def stop(self) -> None:
        """End the thread, and take back an exception that has not been raised yet."""
        self._ended.set()
        self.join()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._job), None)
        self.stopped = True

    def refuse_exceeded(self) -> None:
        if self._held is None:
            return
        held, doing = self._held
        raise InputError(
            f"The export exceeded its memory limit ({doing})",
            received=f"{held / 1e9:.1f} GB of resident memory",
            allowed=f"at most {self._limit / 1e9:.1f} GB",
            fix="Allow more with --max-memory, or choose a smaller precision; finished layers are taken up again.",
        )

    def _end_job(self) -> None:
        """Raise in the job's thread, again where something there has swallowed it."""
        while not self._ended.is_set():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._job), ctypes.py_object(_ExceededError))
            self._ended.wait(_AGAIN_SECONDS)
