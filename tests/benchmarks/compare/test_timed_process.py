from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from jisu.benchmarks.compare.timed_process import ContestantError, TimedProcess
from tests.benchmarks.fake_worker import fake_contestant


def start(contestant, *, time_limit=60.0):
    return TimedProcess(contestant.command, time_limit=time_limit)


def processor_time(pid):
    """Ticks of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_a_process_answers_with_its_steps_and_its_memory():
    with start(fake_contestant("a")) as process:
        assert process.opened["version"] == "fake 1"
        answer = process.generate([[1, 2], [3, 4]], 3)
    assert answer["step_seconds"] == [0.5, 0.01, 0.01]
    assert answer["tokens"] == [[1, 1, 1]] * 2
    assert answer["peak_bytes"] > 1e6


def test_a_process_stands_still_while_it_is_not_asked():
    busy = fake_contestant("busy", body="__import__('threading').Thread(target=spin, daemon=True).start()")
    program = "def spin():\n    while True: pass\n" + busy.command[2]
    with TimedProcess([*busy.command[:2], program], time_limit=60) as process:
        process.generate([[1]], 2)
        time.sleep(0.05)  # until the signal has arrived
        before = processor_time(process.pid)
        time.sleep(0.3)
        assert processor_time(process.pid) == before


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"opening": "raise ValueError('no such file')"}, "while loading: ValueError: no such file"),
        ({"opening": "sys.stderr.write('bad things\\n'); os._exit(3)"}, "ended with 3 while loading: bad things"),
    ],
)
def test_an_engine_that_does_not_open_says_how(faults, said):
    with pytest.raises(ContestantError, match=said):
        start(fake_contestant("a", **faults))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('out of luck')", "while generating: RuntimeError: out of luck"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by signal 9 while generating"),
    ],
)
def test_an_engine_that_fails_in_the_middle_says_how(body, said):
    with start(fake_contestant("a", body=body)) as process, pytest.raises(ContestantError, match=said):
        process.generate([[1]], 2)


def test_an_engine_that_does_not_answer_in_time_is_not_waited_for():
    with pytest.raises(ContestantError, match="no answer within 0.5 s while loading"):
        start(fake_contestant("a", opening="time.sleep(60)"), time_limit=0.5)
    # Long enough for a busy machine to start it.
    hanging = fake_contestant("a", body="time.sleep(60)")
    with start(hanging, time_limit=8) as process, pytest.raises(ContestantError, match="within 8 s while generating"):
        process.generate([[1]], 2)


def test_what_an_engine_cannot_do_is_no_failure():
    with start(fake_contestant("a", body="raise UnsupportedError('one at a time')")) as process:
        assert process.generate([[1], [2]], 2)["unsupported"] == "one at a time"


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(ContestantError, match="/nowhere/python cannot be started"):
        TimedProcess(["/nowhere/python"], time_limit=1)


def test_a_stopped_process_ends_when_whoever_started_it_is_killed():
    command = list(fake_contestant("a").command)
    program = (
        "import os, sys\nfrom benchmarks.compare.timed_process import TimedProcess\n"
        f"print(TimedProcess({command!r}, time_limit=60).pid, flush=True)\nsys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdin is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    until = time.monotonic() + 20
    while time.monotonic() < until and runs(pid):
        time.sleep(0.05)
    assert not runs(pid)


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
