"""A figure of a row: where it is, its title and unit, which end is better, its interval, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["high", "low", "one"]
ARROWS: dict[Better | None, str] = {"high": "↑", "low": "↓", "one": "→ 1", None: ""}
_WAYS: dict[Better, str] = {"high": "higher is better", "low": "lower is better", "one": "nearer to 1 is closer"}
# Unit as it is written -> how many of the stored units it is, and how many digits count.
UNITS: dict[str, tuple[float, int]] = {
    "": (1.0, 4),
    "tok/s": (1.0, 4),
    "texts/s": (1.0, 4),
    "s of sound/s": (1.0, 4),
    "images/s": (1.0, 4),
    "ms": (1e-3, 4),
    "s": (1.0, 4),
    "MB": (1e6, 4),
    "GB/s": (1.0, 3),
    "GB": (1e9, 4),
    "%": (1e-2, 4),
    "J": (1.0, 3),
    "nats": (1.0, 3),
    "millions": (1e6, 4),
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One figure of a row: ``path`` leads to it, and to a summary's median where it has several numbers.

    ``better`` is which end of it one wants, "one" where it should be 1 and no row is marked. ``exact`` figures need no
    interval to be compared.
    """

    title: str
    path: tuple[str, ...]
    unit: str = ""
    better: Better | None = None
    exact: bool = False

    @property
    def direction(self) -> str:
        """Which way is better, in words; empty where neither is."""
        return _WAYS[self.better] if self.better is not None else ""


def figure_path(row: Mapping[str, Any], column: Column) -> tuple[str, ...] | None:
    """Where the figure itself is within the row, a summary's median for a summary; None where there is no number."""
    path, value = column.path, at(row, column.path)
    if isinstance(value, Mapping):
        path, value = (*path, "median"), value.get("median")
    return path if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def at(data: Any, path: Sequence[str]) -> Any:
    """What a path of keys and indices leads to, None where it ends."""
    for key in path:
        if isinstance(data, Mapping):
            data = data.get(key)
        elif isinstance(data, list) and key.isdigit() and int(key) < len(data):
            data = data[int(key)]
        else:
            return None
    return data


def interval_of(row: Mapping[str, Any], column: Column) -> tuple[float, float] | None:
    """Both ends of a figure's interval; the figure itself twice where it is exact, None where there is no interval."""
    path = figure_path(row, column)
    if path is None:
        return None
    if path[-1] == "median":
        ends = at(row, (*path[:-1], "low")), at(row, (*path[:-1], "high"))
    elif column.exact:
        ends = (at(row, path), at(row, path))
    else:
        intervals = at(row, (*path[:-1], "intervals", path[-1]))
        ends = tuple(intervals) if isinstance(intervals, list) and len(intervals) == 2 else (None, None)
    return ends if all(isinstance(end, (int, float)) for end in ends) else None


def shown(value: float, unit: str) -> str:
    """A number in its unit, without the unit's name: with its digits, no exponent where one can read it."""
    factor, digits = UNITS[unit]
    scaled = value / factor
    if isinstance(value, int) and factor == 1.0:
        return str(value)
    if scaled and (abs(scaled) < 1e-4 or abs(scaled) >= 1e7):
        return f"{scaled:.2e}"
    if round(abs(scaled), digits) < 1:
        return f"{scaled:.{digits}g}"
    return f"{scaled:.{max(0, digits - len(str(int(max(1.0, abs(scaled))))))}f}"
