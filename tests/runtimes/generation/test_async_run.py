"""Steps in a thread: order, cancelling, giving up a wait, closing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.async_run import AsyncTextStream, StepThread, finish_run


class SlowRun:
    """A run of three pieces and a silent step; counts the steps that were computed."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.steps = seconds, 0
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[list[tuple[int, str]]]:
        for text in ("a", "", "b", "c"):
            time.sleep(self.seconds)
            self.steps += 1
            self.threads.add(threading.get_ident())
            yield [(0, text)] if text else []

    def results(self) -> list[Any]:
        return ["whole"]


def begins(run: SlowRun) -> Callable[[], Any]:
    return lambda: run


def test_pieces_come_in_order_and_the_result_after_them() -> None:
    async def main() -> None:
        run = SlowRun()
        stream = AsyncTextStream(StepThread(), begins(run))
        with pytest.raises(InputError, match="not finished"):
            _ = stream.result
        assert [piece async for piece in stream] == ["a", "b", "c"]
        assert stream.result == "whole"  # type: ignore[comparison-overlap]
        assert threading.get_ident() not in run.threads
        assert [piece async for piece in stream] == []

    asyncio.run(main())


def test_the_loop_goes_on_meanwhile() -> None:
    async def main() -> int:
        task = asyncio.create_task(finish_run(StepThread(), begins(SlowRun(0.05))))
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0.001)
        return turns

    assert asyncio.run(main()) > 20


def test_a_cancelled_task_computes_no_further() -> None:
    async def main() -> int:
        run = SlowRun(0.05)
        task = asyncio.create_task(finish_run(StepThread(), begins(run)))
        while run.steps == 0:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.25)
        return run.steps

    assert asyncio.run(main()) <= 2


def test_a_wait_that_is_given_up_loses_no_piece() -> None:
    async def main() -> list[str]:
        stream = AsyncTextStream(StepThread(), begins(SlowRun(0.05)))
        pieces = []
        while len(pieces) < 3:
            try:
                pieces.append(await asyncio.wait_for(stream.__anext__(), 0.01))
            except (asyncio.TimeoutError, TimeoutError):
                continue
        return pieces

    assert asyncio.run(main()) == ["a", "b", "c"]


def test_several_answers_take_turns() -> None:
    order: list[str] = []

    async def take(name: str, thread: StepThread) -> None:
        async for _ in AsyncTextStream(thread, begins(SlowRun(0.01))):
            order.append(name)

    async def main() -> None:
        thread = StepThread()
        await asyncio.gather(take("x", thread), take("y", thread))

    asyncio.run(main())
    assert sorted(order) == ["x"] * 3 + ["y"] * 3
    assert order not in (["x"] * 3 + ["y"] * 3, ["y"] * 3 + ["x"] * 3)


def test_a_closed_stream_has_no_more() -> None:
    async def main() -> None:
        run = SlowRun()
        async with AsyncTextStream(StepThread(), begins(run)) as stream:
            assert await stream.__anext__() == "a"
        assert [piece async for piece in stream] == []
        assert run.steps == 1
        with pytest.raises(InputError, match="closed before its end"):
            _ = stream.result

    asyncio.run(main())


def test_errors_of_a_step_arrive_where_it_is_awaited() -> None:
    def broken() -> Any:
        raise InputError("It is bad")

    async def main() -> None:
        with pytest.raises(InputError, match="It is bad"):
            await finish_run(StepThread(), broken)
        with pytest.raises(InputError, match="It is bad"):
            await AsyncTextStream(StepThread(), broken).__anext__()

    asyncio.run(main())


def test_closing_waits_for_the_step_and_takes_no_more_threads() -> None:
    async def main() -> None:
        thread, done = StepThread(), []
        task = asyncio.create_task(thread.run(lambda: (time.sleep(0.1), done.append(1))))
        await asyncio.sleep(0.02)
        thread.close()
        assert done == [1]
        await task
        assert await thread.run(threading.get_ident) == threading.get_ident()

    asyncio.run(main())
