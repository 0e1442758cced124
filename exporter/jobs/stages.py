"""Times the steps of a long job, measures the peak memory of each, shows on a terminal which runs and what is left.

It knows nothing of what the steps do. Nothing is shown for a step of less than two seconds, and nothing at all where
nobody watches, unless asked.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TextIO

from jisu.exporter.jobs.free_memory import give_back_freed
from jisu.exporter.jobs.peak_memory import PeakMemory
from jisu.exporter.jobs.time_left import TimeLeft, spelled

if TYPE_CHECKING:
    from rich.progress import Progress, Task

PATIENCE_SECONDS = 2.0
# Called with how many parts of a step are done, and how many there are.
ReportProgress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """One finished step: seconds of wall clock, and the most bytes of resident memory during it (0: unknown)."""

    name: str
    seconds: float
    peak_bytes: int


class Stages:
    """The steps of one job, in the order they ended.

    A stage inside a stage is recorded as ``outer/inner``; the total counts the outer ones only.

    Args:
        verbose: one plain line for each finished stage, also where nobody watches.
        stream: where progress goes; standard error when None. A spinner needs a terminal.
    """

    def __init__(self, *, verbose: bool = False, stream: TextIO | None = None) -> None:
        self.records: list[StageRecord] = []
        self._verbose = verbose
        self._stream = sys.stderr if stream is None else stream
        self._running: list[_Running] = []
        self._seconds = 0.0
        self._left = TimeLeft({})

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Tell what the outer stages are expected to take, in their order, so that the time left can be shown.

        Those that have ended already say how fast this machine is.
        """
        self._left = TimeLeft(seconds)
        for record in self.records:
            self._left.finish(record.name, record.seconds)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the body as one step; it is recorded also when it raises."""
        outer = self._running[-1] if self._running else None
        if outer is not None:
            outer.keep_peak()
            outer.display.stop()
        full_name = name if outer is None else f"{outer.name}/{name}"
        display = _Display(full_name, self._stream, self._left if outer is None else None)
        running = _Running(full_name, outer.memory if outer else PeakMemory(), display)
        self._running.append(running)
        try:
            yield
        finally:
            self._running.pop()
            running.display.stop()
            record = running.finish()
            self.records.append(record)
            self._left.finish(record.name, record.seconds)
            if outer is None:
                running.memory.close()
                give_back_freed()
                self._seconds += record.seconds
            self._announce(record)

    @property
    def watched(self) -> bool:
        """Whether somebody sees the progress."""
        return _is_terminal(self._stream)

    @property
    def current(self) -> str:
        """Name of the step that runs; of none before the first one."""
        return self._running[-1].name if self._running else "between two stages"

    def advance(self, done: int, total: int) -> None:
        """Tell how much of the running stage is done; outside a stage it does nothing."""
        if self._running:
            self._running[-1].display.advance(done, total)

    def say(self, text: str) -> None:
        """Print a line where finished stages are announced."""
        if self._verbose or _is_terminal(self._stream):
            self._stream.write(f"{text}\n")

    def table(self) -> str:
        """The records as text, one line each, with the total time and the highest peak last."""
        rows = [(record.name, record.seconds, record.peak_bytes) for record in self.records]
        rows.append(("total", self._seconds, self._peak()))
        width = max(len("stage"), *(len(name) for name, _, _ in rows))
        lines = [f"{'stage':{width}}  {'seconds':>8}  {'peak memory':>11}"]
        lines += [f"{name:{width}}  {seconds:8.2f}  {_format_memory(peak):>11}" for name, seconds, peak in rows]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The records, the total seconds and the highest peak in bytes, ready for ``timings.json``."""
        return {
            "seconds": self._seconds,
            "peak_bytes": self._peak(),
            "stages": [asdict(record) for record in self.records],
        }

    def _peak(self) -> int:
        return max((record.peak_bytes for record in self.records), default=0)

    def _announce(self, record: StageRecord) -> None:
        if self._verbose or (_is_terminal(self._stream) and record.seconds >= PATIENCE_SECONDS):
            with contextlib.suppress(OSError, ValueError):  # a closed stream takes no messages
                self._stream.write(f"{record.name}: {record.seconds:.1f} s, {_format_memory(record.peak_bytes)}\n")
                self._stream.flush()


class _Running:
    """A stage that has begun: when, and the highest peak known so far."""

    def __init__(self, name: str, memory: PeakMemory, display: _Display) -> None:
        self.name = name
        self.memory = memory
        self.display = display
        self.peak = 0
        self._begun = time.perf_counter()
        memory.reset()

    def keep_peak(self) -> None:
        """Remember the peak so far, inner stages included, before the next of them resets the counter."""
        self.peak = max(self.peak, self.memory.read())

    def finish(self) -> StageRecord:
        self.keep_peak()
        return StageRecord(name=self.name, seconds=time.perf_counter() - self._begun, peak_bytes=self.peak)


class _Display:
    """A spinner with the time taken and the time left that appears on a terminal after `PATIENCE_SECONDS` of a step.

    Args:
        left: what is known of the time left; None for steps within steps.
    """

    def __init__(self, name: str, stream: TextIO, left: TimeLeft | None) -> None:
        self._name = name
        self._left = left
        self._begun = time.perf_counter()
        self._stream = stream
        self._lock = threading.Lock()
        self._stopped = False
        self._progress: Progress | None = None
        self._done: tuple[int, int | None] = (0, None)
        self._timer: threading.Timer | None = None
        if _is_terminal(stream):
            self._timer = threading.Timer(PATIENCE_SECONDS, self._show)
            self._timer.daemon = True
            self._timer.start()

    def advance(self, done: int, total: int) -> None:
        with self._lock:
            self._done = (done, total)
            if self._progress is not None:
                self._progress.update(self._progress.task_ids[0], completed=done, total=total)

    def describe_left(self) -> str:
        """The time left of the step, and of the job where that is more; empty where nothing is known."""
        if self._left is None:
            return ""
        done, total = self._done
        place = self._name, time.perf_counter() - self._begun, done / total if total else 0.0
        stage, job = self._left.of_stage(*place), self._left.of_job(*place)
        if stage is None:
            return ""
        in_all = f", {spelled(job)} in all" if job is not None and spelled(job) != spelled(stage) else ""
        return f"about {spelled(stage)} left{in_all}"

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._stopped = True
            if self._progress is not None:
                self._progress.stop()
                self._progress = None

    def _show(self) -> None:
        with self._lock, contextlib.suppress(ImportError, OSError, ValueError):
            if self._stopped:
                return
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.text import Text

            display = self

            class LeftColumn(TextColumn):
                """Asked for its text some ten times a second."""

                def render(self, task: Task) -> Text:
                    return Text(display.describe_left())

            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                LeftColumn(""),
                console=Console(file=self._stream),
                transient=True,
                redirect_stdout=False,
            )
            self._progress.add_task(self._name, completed=self._done[0], total=self._done[1])
            self._progress.start()


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _format_memory(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size else "unknown"
