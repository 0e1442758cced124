"""Which random numbers a row draws: its seed and what it reads decide them, never its place among other rows.

So the seed that a result names repeats that answer alone, in any order and in any batch. Rows that read the same would
then say the same; every one after the first gets a seed of its own, made from the first one's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np


def row_seeds(seed: int | None, rows: Sequence[Sequence[int]]) -> list[int | None]:
    """The seed of each row, which together with the row's token ids repeats what it draws.

    Args:
        seed: of the batch; None where nothing is drawn.
        rows: token ids that each row reads.
    """
    if seed is None:
        return [None] * len(rows)
    seen: Counter[tuple[int, ...]] = Counter()
    seeds: list[int | None] = []
    for row in rows:
        key = tuple(row)
        seeds.append(repeated_seed(seed, seen[key]))
        seen[key] += 1
    return seeds


def repeated_seed(seed: int | None, before: int) -> int | None:
    """The seed of a row that reads what ``before`` rows have read already; None where nothing is drawn."""
    if seed is None or not before:
        return seed
    return int(np.random.SeedSequence((seed, before)).generate_state(1)[0])


def row_random(seed: int | None, row: Sequence[int]) -> np.random.Generator:
    """The random numbers of a row that reads these token ids; unpredictable ones without a seed."""
    if seed is None:
        return np.random.default_rng()
    digest = hashlib.sha256(np.asarray(row, "<i8").tobytes()).digest()
    # Rows of one batch share a seed: numbers that were the same in all of them would make their answers alike.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, int.from_bytes(digest[:16], "little")))))
