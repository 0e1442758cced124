"""How an artifact is opened on a backend: what `load` and the command line pass on, listed once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError

# A checkpoint by its place, or the module itself, which only the exporter can tell apart.
Source = Any
# More cores than a machine has; a library that is asked for more threads makes them, however long that takes.
_MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """The options of a backend.

    Args:
        threads: how many compute; None for as many as this process may use cores: affinity and control group count.
        source: the checkpoint or the module that the artifact was made from, for backends that run it instead of the
            graph; an error for any other one.
        allow_cpu_nodes: let a backend for GPUs run operators on the CPU that it has no kernel for; an error for any
            other one.
        plan: the folder that ``jisu build --out`` wrote plans into, or one of them; an error for a backend without
            plans.
        capacity: tokens that the rows of a plan have room for; the same.

    Raises:
        InputError: a number of threads below 1, or of more threads than are opened.
    """

    threads: int | None = None
    source: Source = None
    allow_cpu_nodes: bool = False
    plan: str | Path | None = None
    capacity: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise InputError(
                "The number of threads is out of range",
                received=self.threads,
                allowed=f"1 to {_MOST_THREADS}",
                fix="Correct --threads, or leave it out: one thread for each physical core.",
            )

    @property
    def of_some_backends(self) -> dict[str, Any]:
        """Those options that are set and that only some backends take, by name."""
        plan = None if self.plan is None else Path(self.plan)
        options = {"allow_cpu_nodes": self.allow_cpu_nodes or None, "plan": plan, "capacity": self.capacity}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def can_be_pickled(self) -> bool:
        """Whether another process can open the same: a module is only in this one."""
        return self.source is None or isinstance(self.source, (str, Path))

    def with_absolute_paths(self) -> BackendOptions:
        """The same for a process that may run in another folder."""
        return self if self.plan is None else replace(self, plan=Path(self.plan).absolute())
