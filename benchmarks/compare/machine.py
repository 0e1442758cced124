"""What a measured figure depends on besides the code: CPU, memory, system, and how busy they are.

    python -m jisu.benchmarks.compare.machine

prints the kind of machine, which pipelines keep a baseline for.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from jisu.runtimes.machine.probe import cpu_features

_CPUINFO = Path("/proc/cpuinfo")
# Of x86 and of Arm, in the order in which they tell one design from another.
_DESIGN = (
    "vendor_id",
    "cpu family",
    "model",
    "stepping",
    "CPU implementer",
    "CPU architecture",
    "CPU part",
    "CPU variant",
    "CPU revision",
)
_GIB = 1 << 30


def machine(cpuinfo: str | None = None) -> dict[str, Any]:
    """This machine, for a report.

    ``design`` is the CPU's vendor, family, model and stepping as the CPU itself says them, which unlike ``processor``,
    its name, a virtual machine does not make up; ``features`` are those that decide which kernels run. Both are None
    where the system does not tell.

    Args:
        cpuinfo: what /proc/cpuinfo says; read when None.
    """
    text = _read_cpuinfo() if cpuinfo is None else cpuinfo
    first = _first_cpu(text)
    features = cpu_features(text)
    return {
        "processor": first.get("model name") or platform.processor() or platform.machine(),
        "design": ", ".join(f"{name} {first[name]}" for name in _DESIGN if name in first) or None,
        "features": None if features is None else [name for name, has in features.items() if has],
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "load": psutil.getloadavg(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def machine_kind(machine: Mapping[str, Any]) -> str:
    """What decides which kernels run, as one word for names of files: ``linux-x86_64-avx2-avx512``."""
    words = [*str(machine["system"]).lower().split(), *(machine["features"] or ())]
    return "-".join(words)


def machine_identity(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a machine the same one for a run that is resumed: not how busy it is, nor its memory to the byte."""
    names = ("processor", "design", "features", "cores", "system")
    return {**{name: machine[name] for name in names}, "memory_gib": round(machine["memory_bytes"] / _GIB)}


def _read_cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first_cpu(text: str) -> dict[str, str]:
    """The keys that /proc/cpuinfo has of the first CPU."""
    facts: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            if facts:
                break
            continue
        facts.setdefault(name.strip(), value.strip())
    return facts


if __name__ == "__main__":
    sys.stdout.write(f"{machine_kind(machine())}\n")
