from __future__ import annotations

import os
import time

import pytest

from jisu.benchmarks.robustness.attempt import Outcome, attempt
from jisu.exporter.contract.errors import GateRejectedError, InputError


def raised(error):
    raise error


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (lambda: [1, "a"], Outcome(ending="done", result=[1, "a"])),
        (os.abort, Outcome(ending="crash", detail="SIGABRT")),
        (lambda: os._exit(3), Outcome(ending="crash", detail="ended with 3 and said nothing")),
        (lambda: time.sleep(60), Outcome(ending="hang")),
    ],
)
def test_a_call_ends_in_one_way(call, outcome):
    assert attempt(call, seconds=0.5 if outcome.ending == "hang" else 20) == outcome


@pytest.mark.parametrize(
    ("error", "ending", "words"),
    [
        (InputError("Wrong.", fix="Right."), "refused", "Wrong."),
        (GateRejectedError("Another model.", fix="None."), "rejected", "Another model."),
        (KeyError("layers"), "traceback", "KeyError in test_attempt.py"),
        (SystemExit(2), "traceback", "SystemExit"),
    ],
)
def test_an_error_is_one_for_the_user_or_a_traceback(error, ending, words):
    actual = attempt(lambda: raised(error), seconds=20)
    assert actual.ending == ending
    assert words in actual.detail


def test_a_call_is_killed_when_that_was_asked():
    assert attempt(lambda: time.sleep(60), seconds=50, kill_after=0.1).ending == "killed"
    assert attempt(lambda: 1, seconds=50, kill_after=20).ending == "done"


def test_something_happens_once_while_a_call_runs(tmp_path):
    happened = []

    def wait():
        until = time.monotonic() + 20
        while not (tmp_path / "there").exists() and time.monotonic() < until:
            time.sleep(0.01)
        return (tmp_path / "there").exists()

    def appear():
        happened.append(1)
        (tmp_path / "there").touch()

    outcome = attempt(wait, seconds=30, meanwhile=(0.1, appear))
    assert (outcome.ending, outcome.result, happened) == ("done", True, [1])
