"""Energy that the CPU says it has used, where it says so (Intel's and AMD's RAPL counters under powercap)."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def read_energy(root: Path = POWERCAP) -> dict[str, tuple[int, int]] | None:
    """Each package's counter and where it begins anew, in microjoules; None where they cannot be read."""
    readings = {}
    try:
        for zone in sorted(root.glob("intel-rapl:*")):
            if zone.name.count(":") == 1:  # a package; its parts are counted in it
                values = [(zone / name).read_text(encoding="ascii") for name in ("energy_uj", "max_energy_range_uj")]
                readings[zone.name] = (int(values[0]), int(values[1]))
    except (OSError, ValueError):
        return None
    return readings or None


def joules_between(before: dict[str, tuple[int, int]] | None, after: dict[str, tuple[int, int]] | None) -> float | None:
    """Energy used by all packages between two readings, a counter that began anew included; None without both."""
    if before is None or after is None or before.keys() != after.keys():
        return None
    return sum((after[zone][0] - start) % (most + 1) for zone, (start, most) in before.items()) / 1e6
