"""The most memory that this process held since a moment, in bytes of resident set.

Linux keeps that number itself and lets a process reset it; elsewhere, or where resetting is not permitted, a thread
samples it. Measuring never raises: what is lost is a number, not an export.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

SAMPLE_SECONDS = 0.02
CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


class PeakMemory:
    """The peak since the last `reset`. One per process: the kernel's counter has one owner at a time."""

    def __init__(self, *, clear_refs: Path = CLEAR_REFS, status: Path = STATUS) -> None:
        self._clear_refs = clear_refs
        self._status = status
        self._sampler: _Sampler | None = None

    def reset(self) -> None:
        """Begin anew from what is held now."""
        if self._sampler is None and self._reset_kernel_counter():
            return
        if self._sampler is None:
            self._sampler = _Sampler()
        self._sampler.reset()

    def read(self) -> int:
        """Bytes; 0 when this machine does not tell."""
        if self._sampler is not None:
            return self._sampler.read()
        return _high_water_mark(self._status)

    def close(self) -> None:
        """Stop the sampling thread, if one was needed."""
        if self._sampler is not None:
            self._sampler.stop()
            self._sampler = None

    def _reset_kernel_counter(self) -> bool:
        try:
            self._clear_refs.write_text("5")  # 5: reset the peak resident set (proc(5), clear_refs)
        except OSError:
            return False
        return _high_water_mark(self._status) > 0


def _high_water_mark(status: Path) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


class _Sampler:
    """Reads the resident set every `SAMPLE_SECONDS`; a peak shorter than that is missed."""

    def __init__(self) -> None:
        self._peak = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peak-memory", daemon=True)
        self._thread.start()

    def reset(self) -> None:
        self._peak = resident_bytes()

    def read(self) -> int:
        self._peak = max(self._peak, resident_bytes())
        return self._peak

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, resident_bytes())


def resident_bytes() -> int:
    """Bytes of memory that this process holds now; 0 when this machine does not tell."""
    try:
        import psutil
    except ImportError:
        return 0
    try:
        return int(psutil.Process().memory_info().rss)
    except (psutil.Error, OSError):
        return 0
