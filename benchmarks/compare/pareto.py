"""Which contestants are worth a look: those that no other one beats in speed without losing in closeness."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[int, float, float]]) -> list[int]:
    """Of (index, speed, error) the indices that no other point beats in one without losing in the other, by speed."""
    front = [
        (speed, index)
        for index, speed, error in points
        if not any(s >= speed and e <= error and (s > speed or e < error) for _, s, e in points)
    ]
    return [index for _, index in sorted(front)]
