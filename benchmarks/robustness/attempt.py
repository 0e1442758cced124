"""Runs one call in a process of its own and says how it ended; nothing that it does harms the caller.

The process is a fork, so that heavy packages are imported once: import them before the first attempt, and open no
session of ONNX Runtime in the process that forks, whose threads a child would wait for.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

Ending = Literal["done", "refused", "rejected", "traceback", "hang", "crash", "killed"]
ENDINGS: tuple[Ending, ...] = ("done", "refused", "rejected", "traceback", "hang", "crash", "killed")
_POLL = 0.02  # seconds
_ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call ended.

    Attributes:
        ending: ``done``; ``refused`` with an error for the user; ``rejected`` by the gate; ``traceback`` of any other
            error; ``hang`` beyond the time; ``crash`` by a signal; ``killed`` by us, as was asked.
        detail: the message, the error's class and place, or the signal.
        result: what the call returned, where it is done.
    """

    ending: Ending
    detail: str = ""
    result: Any = None


def attempt(
    call: Callable[[], Any],
    *,
    seconds: float,
    kill_after: float | None = None,
    meanwhile: tuple[float, Callable[[], None]] | None = None,
) -> Outcome:
    """Run a call whose result JSON can hold.

    Args:
        seconds: of wall clock, after which it hangs.
        kill_after: seconds after which it gets SIGKILL, whatever it does; None for never.
        meanwhile: what we do while it runs, once, and after how many seconds.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        sys.stdout.flush()
        sys.stderr.flush()
        # An exception that a signal raises within a fork is lost: callbacks of the fork swallow it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        child = os.fork()
        if child == 0:
            _answer(call, answer)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            status, ended_by_us = _wait(child, seconds=seconds, kill_after=kill_after, meanwhile=meanwhile)
        except BaseException:  # Ctrl-C and SIGTERM end us, and what we have begun
            _end(child)
            raise
        if ended_by_us is not None:
            return Outcome(ending=ended_by_us)
        if os.WIFSIGNALED(status):
            return Outcome(ending="crash", detail=signal.Signals(os.WTERMSIG(status)).name)
        answer.seek(0)
        said = answer.read()
    if not said:
        return Outcome(ending="crash", detail=f"ended with {os.waitstatus_to_exitcode(status)} and said nothing")
    return Outcome(**json.loads(said))


def _answer(call: Callable[[], Any], answer: IO[str]) -> None:
    """Run the call in the child and end it, without anything of the parent that waits for its end."""
    from jisu.exporter.contract.errors import GateRejectedError, JisuError

    # What Ctrl-C and SIGTERM do in the parent is not for its child, and a terminal sends Ctrl-C to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)
    try:
        outcome = {"ending": "done", "result": call()}
    except GateRejectedError as error:
        outcome = {"ending": "rejected", "detail": str(error)}
    except JisuError as error:
        outcome = {"ending": "refused", "detail": str(error)}
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        outcome = {"ending": "traceback", "detail": f"{type(error).__name__} in {place}: {error}"}
    json.dump(outcome, answer)
    answer.flush()
    os._exit(0)


def _wait(
    child: int, *, seconds: float, kill_after: float | None, meanwhile: tuple[float, Callable[[], None]] | None
) -> tuple[int, Ending | None]:
    """(the status that the child left, how we ended it)."""
    begun = time.monotonic()
    due, act = meanwhile or (0.0, None)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status, None
        passed = time.monotonic() - begun
        if act is not None and passed >= due:
            act()
            act = None
        ours: Ending | None = "killed" if kill_after is not None and passed >= kill_after else None
        ours = ours or ("hang" if passed >= seconds else None)
        if ours is not None:
            return _end(child), ours
        time.sleep(_POLL)


def _end(child: int) -> int:
    """Kill the child; the status that it leaves."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:  # it was waited for already
        return 0
