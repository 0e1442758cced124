"""Runs tasks on a Ray cluster: by default one of this machine's own, for as long as the tasks run.

A task is a function of a module and its arguments; it says which resources it takes. One whose worker was lost or
killed is run again. What tasks read and write by path has to be under the same path on every machine.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jisu.exporter.contract.errors import InputError, JisuError, MissingDependencyError
from jisu.exporter.jobs.termination import TERMINATED, ending_cleanly, keeping_the_ending

LOCAL = "local"
# A machine has one of it, and what is timed takes it: nothing else is timed there at the same time.
TIMED = "timed"
RETRIES = 3
_SECONDS = 10.0  # for a machine to answer
_HEALTH_SECONDS = 30.0  # for Ray's own program to start, ask the cluster and end


@dataclass(frozen=True, kw_only=True)
class Task:
    """A call, and what it takes of a machine.

    Attributes:
        name: in messages and in Ray's dashboard.
        function: of a module, so that a worker can import it.
        cores: that it computes with, at least 1.
        memory_bytes: that it needs; 0 when that is not known.
        timed: whether it measures time.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    cores: int = 1
    memory_bytes: int = 0
    timed: bool = False


class LostTaskError(JisuError):
    """A task's worker ended again and again."""


@contextmanager
def cluster(address: str = LOCAL) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine that ends with this. SIGTERM ends the body like Ctrl-C.

    Args:
        address: of a running cluster as `ray start` prints it, ``auto`` to look for it, or ``local``: the one that this
            process is connected to already, which then stays, or one of its own.

    Raises:
        InputError: Ray is not installed, or there is no cluster.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError("ray", extra="ray", needed_for="--ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
    import ray

    connected = ray.is_initialized()
    if connected and address == LOCAL:
        yield
        return
    with ending_cleanly():
        try:
            with keeping_the_ending():  # Ray's own would end us with another code
                _connect(address)
        except SystemExit:  # its own, while it starts
            raise SystemExit(TERMINATED) from None
        except Exception as error:  # Ray raises that class itself when its processes do not start in time
            if not connected:  # what has started does not stay
                ray.shutdown()
            raise InputError(
                f"There is no Ray cluster at {address}",
                received=(str(error) or type(error).__name__).splitlines()[0],
                allowed="the address that `ray start --head` has printed, auto, or nothing for one on this machine",
                fix="Start one, or correct --ray; where this machine is too busy to start one, try again.",
            ) from error
        try:
            yield
        finally:
            with keeping_the_ending():
                ray.shutdown()


def run_tasks(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    """Run tasks on the connected cluster; yields (index, result) as each is done, in any order.

    The result of a task whose workers were all lost is a `LostTaskError`; an exception of its own is raised here.

    Raises:
        InputError: no machine of the cluster has what a task takes.
    """
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

    _check_resources(tasks)
    waiting: dict[Any, int] = {}
    for index, task in enumerate(tasks):
        remote = ray.remote(task.function).options(
            name=task.name,
            num_cpus=task.cores,
            memory=task.memory_bytes or None,
            resources={TIMED: 1} if task.timed else None,
            max_retries=RETRIES,
        )
        waiting[remote.remote(*task.arguments)] = index
    try:
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            index = waiting.pop(done)
            try:
                yield index, ray.get(done)
            except (NodeDiedError, OutOfMemoryError, WorkerCrashedError) as error:
                lines = str(error).strip().splitlines()
                yield index, LostTaskError(f"Its worker was lost {RETRIES + 1} times", received=lines[0])
            except RayTaskError as error:
                raise error.cause from error
    finally:
        for left in waiting:
            ray.cancel(left, force=True)


def run_here(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    """The same without a cluster: one after the other, in this process."""
    for index, task in enumerate(tasks):
        yield index, task.function(*task.arguments)


def _connect(address: str) -> None:
    import ray

    # Ray would send what workers print to our output, and all that any library logs to standard error.
    if address == LOCAL:
        ray.init(
            address="local",
            resources={TIMED: 1},
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
    else:
        _reach(address)  # Ray itself would try for minutes
        ray.init(address=address, log_to_driver=False, configure_logging=False)


def _reach(address: str) -> None:
    """Raise OSError or ValueError when no cluster answers at ``HOST:PORT``; ``auto`` is looked for by Ray."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return
    socket.create_connection((host, int(port)), timeout=_SECONDS).close()
    if address.startswith("ray://"):  # a proxy that has no such question, and that Ray gives up soon
        return
    question = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        probe = subprocess.run(question, capture_output=True, text=True, errors="replace", timeout=_HEALTH_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise OSError("something answers there, but not a Ray cluster") from error
    if probe.returncode:
        lines = probe.stderr.strip().splitlines() or ["the cluster is not healthy"]
        raise OSError(lines[-1].strip())  # such as that it wants a token


def _check_resources(tasks: Sequence[Task]) -> None:
    """Raise InputError for a task that would wait for ever."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    for task in tasks:
        needed = {"CPU": task.cores, "memory": task.memory_bytes, TIMED: int(task.timed)}
        if not any(all(have.get(name, 0) >= amount for name, amount in needed.items()) for have in machines):
            missing = {name for name, amount in needed.items() if all(have.get(name, 0) < amount for have in machines)}
            raise InputError(
                f"No machine of the Ray cluster can run {task.name}",
                received="; ".join(_amounts({name: have.get(name, 0) for name in needed}) for have in machines),
                allowed=f"{_amounts(needed)}, or more, on one machine",
                fix=_fix(missing),
            )


def _amounts(resources: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {amount / 1e9:.2f} GB" if name == "memory" else f"{name} {amount:g}"
        for name, amount in resources.items()
    )


def _fix(missing: Container[str]) -> str:
    if TIMED in missing:
        return f"Start its machines with `ray start --resources='{{\"{TIMED}\": 1}}'`."
    return "Take fewer --threads." if "CPU" in missing else "Add a machine that has enough."
