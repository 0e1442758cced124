"""What becomes of an opened model in a child that a process forks: it has the model's memory, but none of its threads.

A library that waits for its threads waits for ever there, whether it is to compute or to clean up. So nothing that a
parent opened is ever cleaned up in a child; what can be opened again is, when it is first used, and the rest refuses.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from jisu.exporter.contract.errors import InputError

_CALLS = ("new_state", "encode", "forward", "forward_top", "logits")


class Reopened:
    """Something that a child opens again for itself.

    Args:
        open_again: opens it.
        closed: the error of using it after `close`.
    """

    def __init__(self, open_again: Callable[[], Any], closed: Callable[[], Exception]) -> None:
        self._open, self._closed = open_again, closed
        self._value: Any | None = open_again()
        keep_for_parent(self._value)
        _REOPENED.add(self)

    def get(self) -> Any:
        """It, opened in this process; raises what ``closed`` says after `close`, and what opening it may raise."""
        if self._value is None:
            if self._open is _nothing:
                raise self._closed()
            self._value = self._open()
            keep_for_parent(self._value)
        return self._value

    def close(self) -> None:
        """Let go of it; safe to call twice."""
        self._open, self._value = _nothing, None

    def leave(self) -> None:
        """Forget it, such as the parent's in a child; it is opened again when it is asked for."""
        self._value = None


_KEPT: WeakSet[Any] = WeakSet()
_REOPENED: WeakSet[Reopened] = WeakSet()
_FORBIDDEN: WeakSet[Any] = WeakSet()
_RUN: list[Callable[[], object]] = []


def keep_for_parent(thing: Any) -> None:
    """Never let a child clean this up: it has threads, or a device, of the process that made it."""
    _KEPT.add(thing)


def forbid_to_children(backend: Any) -> None:
    """Let a backend whose device does not follow into a child refuse all calls there."""
    _FORBIDDEN.add(backend)


def run_in_children(function: Callable[[], object]) -> None:
    """Call a function in every forked child, right after the fork; once, however often it is named."""
    if function not in _RUN:
        _RUN.append(function)


def _nothing() -> Any:
    return None


def _after_fork() -> None:
    for thing in [*_KEPT, *_FORBIDDEN]:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))  # one reference that nobody gives back
    _KEPT.clear()
    for reopened in list(_REOPENED):
        reopened.leave()
    for backend in list(_FORBIDDEN):
        _forbid(backend)
    for function in _RUN:
        function()


def _forbid(backend: Any) -> None:
    name = backend.name

    def refuse(*_: Any, **__: Any) -> Any:
        raise InputError(
            f"The backend {name} cannot be used in a forked process",
            received=f"a call in process {os.getpid()}",
            allowed="calls in the process that opened it",
            fix="Load the artifact in the child, or start children with the method spawn.",
        )

    leave = getattr(backend, "leave", None)
    if leave is not None:
        leave()
    for call in _CALLS:
        if hasattr(backend, call):
            setattr(backend, call, refuse)
    backend.close = lambda: None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
