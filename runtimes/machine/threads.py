"""How many threads compute where nobody says: as many as this process may use cores, not as many as the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from jisu.runtimes.machine.cgroup import cgroup_cpus

_CPUS = Path("/sys/devices/system/cpu")


def usable_threads() -> int:
    """Threads that can compute at the same time: the cores of this process's affinity, within its group's quota.

    Two CPUs of one core count once: they share what the kernels need. Of a quota's last core only a whole one counts:
    threads that wait for each other all wait for the one that has none left.
    """
    threads = physical_cores(_affinity())
    limit = cgroup_cpus()
    return max(1, threads if limit is None else min(threads, int(limit)))


def physical_cores(cpus: Iterable[int], folder: Path = _CPUS) -> int:
    """Cores that these CPUs are on; each is one where the machine does not tell."""
    cores: set[object] = set()
    for cpu in cpus:
        try:
            place = folder / f"cpu{cpu}" / "topology"
            cores.add(tuple((place / name).read_text().strip() for name in ("physical_package_id", "core_id")))
        except (OSError, ValueError):
            cores.add(cpu)
    return len(cores)


def _affinity() -> Iterable[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)
