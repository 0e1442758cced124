"""What the control group of this process may use, of either version; facts only, and None for what has no limit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
# Version 1 has no word for "no limit": a number near the largest that there is.
_NO_MEMORY_LIMIT = 1 << 60


def cgroup_cpus(root: Path = ROOT, own: Path = OWN) -> float | None:
    """Cores' worth of time that the control group may use; the smallest limit of it and of those that hold it."""
    limits = [_quota(folder) for folder in (*_folders(root, own, ""), *_folders(root, own, "cpu"))]
    return min((limit for limit in limits if limit is not None), default=None)


def cgroup_memory(root: Path = ROOT, own: Path = OWN) -> tuple[int | None, int | None]:
    """Bytes that the control group may use, and those it uses; None without a limit."""
    limits: list[tuple[int, int | None]] = []
    for controller, limit, usage in (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for folder in _folders(root, own, controller):
            most = _number(folder / limit)
            if most is not None and most < _NO_MEMORY_LIMIT:
                limits.append((most, _number(folder / usage)))
    return min(limits, key=lambda pair: pair[0], default=(None, None))


def _quota(folder: Path) -> float | None:
    with contextlib.suppress(ValueError, ZeroDivisionError):
        quota, period = (_text(folder / "cpu.max") or "").split()
        return int(quota) / int(period)  # "max 100000" means no limit, and is no number
    quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota_us / period_us if quota_us is not None and period_us else None  # -1, no limit, is no number here


def _folders(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's group, the outermost first; inside a container only that of the root may be there.

    Args:
        controller: of version 1; nothing for version 2.
    """
    for line in (_text(own) or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller not in names.split(",") or (controller == "" and names):
            continue
        for base in _mounts(root, names, controller):
            parts = [part for part in path.strip().split("/") if part not in ("", "..")]
            yield from (base.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))
        return
    yield from _mounts(root, controller, controller)


def _mounts(root: Path, names: str, controller: str) -> Sequence[Path]:
    """Where a hierarchy may be: that of several controllers under the name of each, or of all."""
    return [root, root / "unified"] if not controller else [root / names, root / controller]


def _number(path: Path) -> int | None:
    text = (_text(path) or "").strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return None
