"""Finds the key that was meant by one that is spelled a little differently: a damaged or mistyped one."""

from __future__ import annotations

from collections.abc import Iterable

_SHORTEST = 4  # characters of a key that can be told from another one
_LONG = 7  # from here on two edits are allowed, below one


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """The known key within one edit, or two of a long one; None where there is none.

    An edit inserts, drops or exchanges one character, or swaps two neighbours; case does not count.
    """
    if len(key) < _SHORTEST:
        return None
    allowed = 2 if len(key) >= _LONG else 1
    near = [(distance, one) for one in known if (distance := _distance(key.lower(), one.lower(), allowed)) <= allowed]
    return min(near)[1] if near else None


def _distance(first: str, second: str, limit: int) -> int:
    """Edits between two words (optimal string alignment), or any number beyond the limit where there are more."""
    if abs(len(first) - len(second)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        last, row, before = before, [i], row
        for j, b in enumerate(second, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
