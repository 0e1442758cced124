from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from jisu.exporter.commands.ray_argument import add_ray_argument
from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.exporter.jobs.ray_tasks import LOCAL, LostTaskError, Task, _reach, cluster, run_here, run_tasks
from tests.support.ray_cluster import killing_a_worker, title


def square(number):
    return number * number


def note_times(folder, name):
    """Write down when a task ran, on the clock of the machine."""
    started = time.monotonic()
    time.sleep(0.4)
    Path(folder, name).write_text(f"{started} {time.monotonic()}")


def wait_for(path, seconds):
    """A task that says that it has begun and takes its time."""
    with Path(path).open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return "done"


def fail():
    raise InputError("It went wrong", received="nonsense")


def end_at_once():
    os.abort()


def test_results_come_with_the_number_of_their_task(ray_cluster):
    tasks = [Task(name=f"square of {number}", function=square, arguments=(number,)) for number in range(5)]
    assert sorted(run_tasks(tasks)) == [(number, number * number) for number in range(5)]
    assert list(run_here(tasks)) == sorted(run_tasks(tasks))


def test_a_task_whose_worker_is_killed_runs_again(ray_cluster, tmp_path):
    log = tmp_path / "begun"
    tasks = [Task(name="long task", function=wait_for, arguments=(str(log), 1.5))]
    with killing_a_worker("long task", after=0.5) as killed:
        assert list(run_tasks(tasks)) == [(0, "done")]
    begun = [int(line) for line in log.read_text().splitlines()]
    assert len(killed) == 1
    assert begun[0] == killed[0]
    assert len(begun) == 2


def test_what_is_timed_is_alone_on_its_machine(ray_cluster, tmp_path):
    tasks = [
        Task(name=name, function=note_times, arguments=(str(tmp_path), name), timed=True) for name in ("a", "b", "c")
    ]
    list(run_tasks(tasks))
    spans = sorted(tuple(map(float, path.read_text().split())) for path in tmp_path.iterdir())
    assert len(spans) == 3
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_a_task_that_always_ends_its_worker_is_given_up_and_the_others_go_on(ray_cluster):
    tasks = [
        Task(name="bad", function=end_at_once),
        Task(name="good", function=square, arguments=(3,)),
    ]
    actual = dict(run_tasks(tasks))
    assert isinstance(actual[0], LostTaskError)
    assert "lost 4 times" in str(actual[0])
    assert actual[1] == 9


def test_sigterm_ends_a_run_on_a_cluster_as_any_other(ray_cluster):
    """Ray's own handlers end the process with 15 or 1."""
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_is_ended_while_ray_starts_leaves_no_process_of_it(tmp_path, sent, code):
    words = ["-m", "jisu", "compare", "nothing", "--ray", "--out", str(tmp_path)]
    children: list[psutil.Process] = []
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not any("gcs_server" in title(child) for child in children):
            assert process.poll() is None
            children = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.02)
        process.send_signal(sent)
        assert process.wait(60) == code
    _, left = psutil.wait_procs(children, timeout=30)
    # Where nobody collects orphans they stay as a number.
    assert [title(child) for child in left if child.status() != psutil.STATUS_ZOMBIE] == []


def test_sigterm_does_afterwards_what_it_did_before(monkeypatch):
    def takes_it(**options):
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(15))

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", takes_it)
    monkeypatch.setattr("ray.shutdown", takes_it)
    own = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended, cluster():
            # As Ray does while it waits.
            with suppress(SystemExit):
                os.kill(os.getpid(), signal.SIGTERM)
            raise SystemExit(1)
        assert ended.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, own)


def test_an_error_of_a_task_is_raised_as_what_it_is(ray_cluster):
    with pytest.raises(InputError, match="It went wrong. Received: nonsense."):
        list(run_tasks([Task(name="bad", function=fail)]))


@pytest.mark.parametrize(
    ("takes", "said"),
    [
        ({"cores": 10_000}, "CPU 10000, memory 0.00 GB, timed 0, or more, on one machine. Take fewer --threads"),
        ({"memory_bytes": 1 << 60}, "memory 1152921504.61 GB, timed 0, or more, on one machine. Add a machine"),
    ],
)
def test_what_no_machine_can_run_is_an_error_instead_of_waiting_for_ever(ray_cluster, takes, said):
    with pytest.raises(InputError, match=f"No machine of the Ray cluster can run big.*{said}"):
        list(run_tasks([Task(name="big", function=square, arguments=(1,), **takes)]))


@pytest.mark.parametrize(
    ("address", "said"), [("127.0.0.1:1", "Connection refused"), ("127.0.0.1:port", "invalid literal")]
)
def test_an_address_without_a_cluster_is_an_error(address, said):
    with pytest.raises(InputError, match=f"There is no Ray cluster at {address}.*{said}"), cluster(address):
        pass


def test_something_else_that_listens_is_an_error_instead_of_trying_for_minutes(monkeypatch):
    monkeypatch.setattr("jisu.exporter.jobs.ray_tasks._HEALTH_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        said = f"There is no Ray cluster at {address}.*not a Ray cluster"
        with pytest.raises(InputError, match=said), cluster(address):
            pass


def test_a_running_cluster_answers(ray_cluster):
    import ray

    _reach(ray.get_runtime_context().gcs_address)


def test_a_path_after_ray_is_not_taken_for_an_address(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", nargs="*")
    add_ray_argument(parser, what="tasks")
    with pytest.raises(SystemExit):
        parser.parse_args(["--ray", str(tmp_path)])
    assert "is not a cluster address; name files and folders before --ray" in capsys.readouterr().err
    assert parser.parse_args([str(tmp_path), "--ray"]).ray == LOCAL


def test_a_cluster_that_does_not_start_in_time_is_an_error(monkeypatch):
    def is_slow(**options):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", is_slow)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with pytest.raises(InputError, match="no Ray cluster at local.*timed out during startup"), cluster():
        pass


def test_a_missing_package_is_an_error(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'jisu\[ray\]'"), cluster():
        pass
