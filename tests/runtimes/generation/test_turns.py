from __future__ import annotations

import os
import threading
import time

import pytest

from jisu.runtimes.generation.turns import Turns


def waiting(turns: Turns, count: int) -> None:
    """Return when so many threads wait."""
    end = time.monotonic() + 20
    while len(turns._waiting) < count:
        assert time.monotonic() < end, "nobody waits"
        time.sleep(0.001)


def test_turns_go_in_the_order_of_asking() -> None:
    turns, order = Turns(), []

    def take(name: int) -> None:
        with turns:
            order.append(name)

    with turns:
        threads = []
        for name in range(5):
            threads.append(threading.Thread(target=take, args=(name,)))
            threads[-1].start()
            waiting(turns, name + 1)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_who_gives_back_and_asks_again_waits_behind_the_others() -> None:
    turns, order = Turns(), []

    def take() -> None:
        with turns:
            order.append("other")

    turns.__enter__()
    thread = threading.Thread(target=take)
    thread.start()
    waiting(turns, 1)
    turns.__exit__(None, None, None)
    with turns:
        order.append("first")
    thread.join()
    assert order == ["other", "first"]


def test_only_one_is_inside() -> None:
    turns, inside, most = Turns(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with turns:
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_an_error_inside_gives_the_turn_back() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns:
        raise ZeroDivisionError
    with turns:
        pass


def test_who_gives_up_waiting_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    turns.__enter__()

    class Interrupted:
        """A lock whose second acquisition, the wait, is interrupted."""

        def __init__(self) -> None:
            self.count = 0

        def acquire(self) -> None:
            self.count += 1
            if self.count == 2:
                raise KeyboardInterrupt

        def release(self) -> None:
            raise AssertionError("the turn was given to somebody who has left")

    monkeypatch.setattr(threading, "Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        turns.__enter__()
    monkeypatch.undo()
    turns.__exit__(None, None, None)
    with turns:
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_takes_its_turn_though_the_parent_held_it() -> None:
    turns = Turns()
    with turns:
        child = os.fork()
        if child == 0:
            with turns:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
