"""Answers for code that runs in an event loop: steps are computed in a thread of the engine's own, one at a time.

Between two steps the loop is free, and a cancelled task computes no further; a step that has begun ends by itself.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from jisu.runtimes.generation.result import Result
from jisu.runtimes.generation.runs import Run
from jisu.runtimes.generation.text_stream import unfinished

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

T = TypeVar("T")


class StepThread:
    """One thread, made when it is first needed, in which the steps of all tasks wait for each other in order."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._closed = False

    async def run(self, step: Callable[[], T]) -> T:
        """What ``step`` returns or raises; when it is not awaited any more, a step that has not begun is left out."""
        if self._closed:
            return step()  # the backend says that it is closed
        if self._pool is None or self._process != os.getpid():  # a forked child has no threads
            self._pool, self._process = ThreadPoolExecutor(1, thread_name_prefix="jisu"), os.getpid()
        return await asyncio.get_running_loop().run_in_executor(self._pool, step)

    def close(self) -> None:
        """Wait for the step that is being computed, and take no more."""
        self._closed = True
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown(wait=True)
        self._pool = None


class AsyncTextStream:
    """The pieces of one answer, for ``async for``; when they are through, ``result`` has the whole.

    Leaving it early, by a break or a cancelled task, needs no care: nothing more is computed. A wait that was given up
    (`asyncio.wait_for`) loses no piece: the next one gets it.
    """

    def __init__(self, steps: StepThread, begin: Callable[[], Run]) -> None:
        self._steps = steps
        self._begin = begin
        self._run: Run | None = None
        self._computed: Iterator[list[tuple[int, str]]] = iter(())
        self._ready: deque[str] = deque()
        self._result: Result | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._ready:
            if self._closed or self._result is not None:
                raise StopAsyncIteration
            await self._steps.run(self._step)
        return self._ready.popleft()

    @property
    def result(self) -> Result:
        """The finished answer; raises InputError before the last piece was taken."""
        if self._result is None or self._ready:
            raise unfinished(closed=self._closed)
        return self._result

    async def aclose(self) -> None:
        """Compute no further; there are no more pieces then. Safe to call twice, and at the end."""
        self._closed = True
        self._ready.clear()
        self._run, self._computed = None, iter(())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _step(self) -> None:
        """Compute one step, in the thread; what it said is kept here, whoever waited for it."""
        if self._closed or self._result is not None:
            return
        if self._run is None:
            self._run = self._begin()
            self._computed = iter(self._run)
        pieces = next(self._computed, None)
        if pieces is None:
            self._result = self._run.results()[0]
        else:
            self._ready += [text for _, text in pieces]


async def finish_run(steps: StepThread, begin: Callable[[], Run]) -> list[Result]:
    """Compute a run step by step; cancelling the task ends it after the step that is being computed."""
    run = await steps.run(begin)
    pieces = iter(run)
    while await steps.run(lambda: next(pieces, None)) is not None:
        pass
    return run.results()
