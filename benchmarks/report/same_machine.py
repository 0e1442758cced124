"""Were two reports measured on the same machine, and may their seconds be compared?

A machine is known by what decides its speed, not by its name: CPU design and features, cores, memory to the GiB, and
the speed of a fixed loop at the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_GIB = 1 << 30
# The fixed loop's speed may differ by this share: less than the slowdown that is looked for.
SPEED_TOLERANCE = 0.1
_NAMES = {"processor": "CPU", "design": "CPU design", "cores": "number of cores", "system": "system"}


def machine_differences(report: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """In what the two machines differ, in words; nothing when seconds of one mean the same on the other."""
    now, before = report["machine"], baseline["machine"]
    differences = [
        f"the {word} is {_word(now.get(name))}, was {_word(before.get(name))}"
        for name, word in _NAMES.items()
        if now.get(name) != before.get(name)
    ]
    differences += feature_differences(report, baseline)
    memory = [item.get("memory_bytes") for item in (now, before)]
    if None in memory or abs(memory[0] - memory[1]) >= _GIB:
        differences.append(f"the memory is {_gib(memory[0])}, was {_gib(memory[1])}")
    threads = (report["settings"]["threads"], baseline["settings"]["threads"])
    if threads[0] != threads[1]:
        differences.append(f"{threads[0]} threads, were {threads[1]}")
    return differences + _speed_difference(now.get("loops_per_s"), before.get("loops_per_s"))


def feature_differences(report: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """Which features only one of the two CPUs has: libraries then run other kernels there."""
    now, before = (item["machine"].get("features") for item in (report, baseline))
    if now == before:
        return []
    if now is None or before is None:
        return [f"the CPU features are {_features(now)}, were {_features(before)}"]
    gained, lost = (sorted(set(one) - set(other)) for one, other in ((now, before), (before, now)))
    words = [*([f"has {', '.join(gained)}"] if gained else []), *([f"lacks {', '.join(lost)}"] if lost else [])]
    return [f"the CPU {' and '.join(words)}, unlike the baseline's"]


def _speed_difference(now: float | None, before: float | None) -> list[str]:
    if now is None and before is None:
        return []
    if now is None or before is None:
        which = "now" if now is None else "in the baseline"
        return [f"how fast the machine was is unknown {which}"]
    ratio = now / before
    if 1 / (1 + SPEED_TOLERANCE) <= ratio <= 1 + SPEED_TOLERANCE:
        return []
    return [f"a fixed loop runs at {100 * ratio:.0f} % of the baseline's speed: the machine is busy or another one"]


def _word(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _features(names: list[str] | None) -> str:
    return "unknown" if names is None else ", ".join(names) or "none"


def _gib(size: float | None) -> str:
    return "unknown" if size is None else f"{size / _GIB:.1f} GiB"
