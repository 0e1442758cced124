"""Runs a function for many names, each in a process of its own that is ended when it takes too long."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

_PATIENCE = 6  # seconds of wall clock for each second of CPU time
Result = TypeVar("Result")


def import_once() -> None:
    """Load what every process needs before it forks off."""
    import onnxruntime  # noqa: F401, TID251

    import jisu.exporter.gate
    import jisu.exporter.tracing.causal_lm
    import jisu.exporter.tracing.trace  # noqa: F401


def bounded_runs(
    names: Sequence[str],
    examine: Callable[[str], Result],
    failed: Callable[[str, str], Result],
    *,
    jobs: int,
    limit: float,
) -> Iterator[Result]:
    """The results as they come.

    Args:
        examine: of a name, in a process that is forked off; what it returns is sent back.
        failed: of a name and a reason, for a process that ended without a result.
        jobs: processes at a time.
        limit: CPU seconds of each.
    """
    context = multiprocessing.get_context("fork")
    waiting = list(names)
    running: dict[Connection, tuple[str, Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(examine, name, theirs, limit))
            process.start()
            theirs.close()
            running[ours] = (name, process, time.monotonic())
        wait(list(running), timeout=1.0)
        for connection, (name, process, begun) in list(running.items()):
            seconds = time.monotonic() - begun
            if connection.poll():
                try:
                    yield connection.recv()
                except EOFError:
                    process.join()
                    late = process.exitcode == -signal.SIGXCPU
                    reason = f"It took longer than {limit:.0f} s." if late else "Its process ended without a word."
                    yield failed(name, reason)
            elif seconds > _PATIENCE * limit:
                process.kill()
                yield failed(name, f"It took longer than {limit:.0f} s.")
            else:
                continue
            process.join()
            del running[connection]


def _run(examine: Callable[[str], Any], name: str, result: Connection, limit: float) -> None:
    # Of the CPU, since the machine may have other work; a process that waits forever is ended from outside.
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    result.send(examine(name))
    result.close()
