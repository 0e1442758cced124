"""Windows of rows that a network attends in when it hears a recording, found out by listening to it.

transformers has a function for where these windows end, and models compute it with loops over numbers that no trace
has (5.23). Of one recording the windows are alike but for the last, so that a number is all that a graph needs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from jisu.exporter.contract.errors import InputError

_ENDS = "get_audio_cu_seqlens"
# Seconds of recordings, each twice as long, until one has several windows; and parts of that one.
_SECONDS = (1, 2, 4, 8, 16, 32, 64)
_PARTS = (0.37, 0.93, 1.41)
_FEWEST = 3


@dataclass(frozen=True, kw_only=True)
class RecordingWindows:
    """Windows of so many rows each, the last of fewer; a recording of so many seconds has several."""

    rows: int
    seconds: float


def listen_for_windows(model: Any, run: Callable[[float], Any]) -> RecordingWindows | None:
    """The windows of a model; None where it asks for none.

    Args:
        run: has the model hear a recording of so many seconds.

    Raises:
        InputError: windows that are not alike, or none that end within a minute.
    """
    for seconds in _SECONDS:
        ends = _heard(model, partial(run, seconds))
        if not ends:
            return None
        rows = np.diff(ends[0])
        if len(ends) == 1 and len(rows) >= _FEWEST:
            windows = RecordingWindows(rows=int(rows[0]), seconds=float(seconds))
            others = [_heard(model, partial(run, part * seconds)) for part in _PARTS]
            if all(len(one) == 1 and _alike(np.diff(one[0]), windows.rows) for one in (ends, *others)):
                return windows
            break
    raise InputError(
        f"{type(model).__name__} hears in windows that are not known here",
        received="windows of several lengths, or longer than a minute",
        allowed="windows of the same number of rows, the last of fewer",
        fix="Choose another model.",
    )


@contextlib.contextmanager
def given_windows(model: Any, ends: Any) -> Iterator[None]:
    """While entered: the windows of a recording end here, int64 [windows + 1], where the model would compute it."""
    with _replaced(model, lambda own: lambda *arguments, **options: ends):
        yield


def _alike(rows: Any, window: int) -> bool:
    return bool((rows[:-1] == window).all() and 0 < rows[-1] <= window)


def _heard(model: Any, run: Callable[[], Any]) -> list[Any]:
    """What the model says of windows in a run."""
    calls: list[Any] = []

    def listening(own: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            ends = own(*arguments, **options)
            calls.append(ends.cpu().numpy())
            return ends

        return call

    with _replaced(model, listening):
        run()
    return calls


@contextlib.contextmanager
def _replaced(model: Any, make: Callable[[Any], Any]) -> Iterator[None]:
    modules = {sys.modules[type(child).__module__] for child in model.modules()}
    own = [(module, getattr(module, _ENDS)) for module in modules if hasattr(module, _ENDS)]
    try:
        for module, function in own:
            setattr(module, _ENDS, make(function))
        yield
    finally:
        for module, function in own:
            setattr(module, _ENDS, function)
