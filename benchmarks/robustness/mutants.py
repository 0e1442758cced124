"""Files damaged as disks, downloads and hands damage them: bytes, pieces, and values of JSON; seeded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

# Values that JSON can hold and nobody expects.
_ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    0.5,
    1e308,
    2**31,
    2**63,
    10**30,
    "",
    "x",
    "\u0000",
    "../../etc",
    [],
    {},
    [[]],
    [None],
)
_LONGEST_PIECE = 64


def flip_bit(data: bytes, chance: random.Random) -> bytes:
    """One bit another one."""
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def set_bytes(data: bytes, chance: random.Random) -> bytes:
    """A piece of random bytes, of zeros or of ones in place of as many."""
    place, length = _piece(data, chance)
    fills = (bytes(length), b"\xff" * length, chance.randbytes(length))
    return data[:place] + chance.choice(fills) + data[place + length :]


def drop_bytes(data: bytes, chance: random.Random) -> bytes:
    """A piece missing."""
    place, length = _piece(data, chance)
    return data[:place] + data[place + length :]


def repeat_bytes(data: bytes, chance: random.Random) -> bytes:
    """A piece twice."""
    place, length = _piece(data, chance)
    return data[: place + length] + data[place:]


def truncate(data: bytes, chance: random.Random) -> bytes:
    """Only the beginning, or nothing."""
    return data[: chance.randrange(len(data))]


def exchange(data: bytes, chance: random.Random) -> bytes:
    """Two pieces of one length in each other's place."""
    length = chance.randint(1, max(1, min(_LONGEST_PIECE, len(data) // 2)))
    first = chance.randrange(max(1, len(data) - 2 * length + 1))
    second = chance.randint(min(first + length, len(data)), max(first + length, len(data) - length))
    one, other = data[first : first + length], data[second : second + length]
    return data[:first] + other + data[first + length : second] + one + data[second + length :]


def change_value(data: bytes, chance: random.Random) -> bytes:
    """A JSON file with one value another one, anywhere in it."""
    tree = json.loads(data)
    holder, key = chance.choice(list(_places(tree)))
    value = holder[key]
    numbers = [value + 1, value - 1, -value, value * 2] if type(value) in (int, float) else []
    holder[key] = chance.choice([*_ODD, *numbers])
    return json.dumps(tree).encode()


def drop_value(data: bytes, chance: random.Random) -> bytes:
    """A JSON file with one key or item missing, anywhere in it."""
    tree = json.loads(data)
    holder, key = chance.choice(list(_places(tree)))
    del holder[key]
    return json.dumps(tree).encode()


Mutation = Callable[[bytes, random.Random], bytes]
OF_BYTES: tuple[Mutation, ...] = (flip_bit, set_bytes, drop_bytes, repeat_bytes, truncate, exchange)
OF_JSON: tuple[Mutation, ...] = (change_value, drop_value)
# Of bytes that keep the length, which nothing but the content tells.
SAME_SIZE: tuple[Mutation, ...] = (flip_bit, set_bytes, exchange)


def mutate(name: str, data: bytes, seed: int) -> tuple[str, bytes]:
    """(what was done, the damaged file) of a file that is not empty; the same for the same seed.

    A JSON file is damaged value by value more often than byte by byte. What happens to come out as it was is tried
    again.
    """
    chance = random.Random(f"{name} {seed}")
    kinds = OF_BYTES + 4 * OF_JSON if _is_json(data) else OF_BYTES
    while True:
        mutation = chance.choice(kinds)
        damaged = mutation(data, chance)
        same = _is_json(damaged) and _is_json(data) and json.loads(damaged) == json.loads(data)
        if damaged != data and not same:
            return mutation.__name__, damaged


def _piece(data: bytes, chance: random.Random) -> tuple[int, int]:
    place = chance.randrange(len(data))
    return place, min(chance.randint(1, _LONGEST_PIECE), len(data) - place)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(holder, key) of every value in a tree, at any depth."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    return [place for key in keys for place in ((tree, key), *_places(tree[key]))]


def _is_json(data: bytes) -> bool:
    try:
        return bool(_places(json.loads(data)))
    except (ValueError, RecursionError):
        return False
