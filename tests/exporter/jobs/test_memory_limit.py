"""A job within its limit is left alone, one beyond it ends with a sentence, whatever it catches."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

import jisu.exporter.jobs.memory_limit
from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.memory_limit import memory_limit
from tests.support.held_memory import BLOCK, hold_memory


def limited(
    limit: int | None, held: Callable[[], int], body: Callable[[], None], relieve: Callable[[], None] = lambda: None
) -> None:
    with memory_limit(limit, relieve=relieve, doing=lambda: "verify", measure=held):
        body()


def spin(seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.005)


@pytest.mark.parametrize("limit", [None, 100])
def test_a_job_within_its_limit_is_left_alone(limit: int | None) -> None:
    limited(limit, lambda: 100, lambda: spin(0.2))


def test_a_job_beyond_it_ends_with_what_it_was_doing() -> None:
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"exceeded its memory limit \(verify\)\. Received: 2.0 GB.*at most 1.0 GB"):
        limited(1_000_000_000, lambda: 2_000_000_000, spin)
    assert time.monotonic() - begun < 10


def test_a_job_that_catches_exceptions_is_ended_all_the_same() -> None:
    def stubborn() -> None:
        for _ in range(1000):
            try:
                spin(0.05)
            except Exception:  # noqa: BLE001
                pytest.fail("the end of the job is no Exception")

    with pytest.raises(InputError):
        limited(1, lambda: 2, stubborn)


def test_a_job_that_swallows_everything_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed = []
    monkeypatch.setattr(jisu.exporter.jobs.memory_limit, "_AGAIN_SECONDS", 0.5)

    def swallowing() -> None:
        try:
            spin()
        except BaseException as error:  # noqa: BLE001
            swallowed.append(error)
        spin()

    with pytest.raises(InputError):
        limited(1, lambda: 2, swallowing)
    assert len(swallowed) == 1


def test_what_can_be_given_back_is_before_anything_ends() -> None:
    held = [200]
    limited(100, lambda: held[0], lambda: spin(0.3), relieve=lambda: held.__setitem__(0, 50))
    assert held == [50]


def test_an_error_of_the_job_itself_is_what_is_raised() -> None:
    def fails() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        limited(100, lambda: 50, fails)


def test_nothing_is_raised_after_the_job() -> None:
    for _ in range(20):
        with pytest.raises(InputError):
            limited(1, lambda: 2, lambda: spin(0.03))
        spin(0.01)


def test_the_process_itself_is_measured() -> None:
    from jisu.exporter.jobs.peak_memory import resident_bytes

    with (
        pytest.raises(InputError),
        memory_limit(resident_bytes() + BLOCK // 2, relieve=lambda: None, doing=lambda: "load"),
    ):
        hold_memory(seconds=3)
        spin(0.2)
