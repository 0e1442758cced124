"""What the files of a checkpoint state, read without any of the exporter's readers.

It tells a damaged checkpoint that is another model now, legitimately, from one of which a statement was dropped in
silence: where a file without the new statement gives the very same answers, nobody has taken notice of it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

# Keys from the outermost to the innermost, of JSON; the key alone, of GGUF.
Place = tuple[Any, ...]
_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_STRING, _GGUF_ARRAY = 8, 9
_ALIGNMENT = 32


def new_statements(name: str, whole: bytes, damaged: bytes) -> list[Place] | None:
    """Where a damaged file says what the whole one does not; None of a file that this module cannot read.

    A value that is null or an empty list says nothing, and neither does a token of a negative id, which some write for
    none, nor what training drops by chance, nor a switch that is new and off. What only lacks something is nothing new.
    """
    try:
        ours, theirs = _statements(name, damaged), _statements(name, whole)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, struct.error):
        return None
    if ours is None or theirs is None:
        return None
    return [
        place
        for place, value in ours.items()
        if _says(place, value) and not _same(value, theirs.get(place)) and not (value is False and place not in theirs)
    ]


def without(name: str, damaged: bytes, places: Sequence[Place]) -> bytes:
    """The damaged file with these statements taken out."""
    if damaged[:4] == b"GGUF":
        return _without_keys(damaged, {str(place[0]) for place in places})
    tree = json.loads(damaged)
    for place in sorted(places, key=len, reverse=True):
        holder = tree
        for key in place[:-1]:
            holder = holder[key]
        del holder[place[-1]]
    return json.dumps(tree, ensure_ascii=False).encode()


def only_numbers(name: str, whole: bytes, damaged: bytes) -> bool:
    """Whether two files of weights differ in nothing but the numbers that they hold: names, shapes and types agree."""
    try:
        return _frame(name, whole) == _frame(name, damaged) != b""
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, struct.error):
        return False


def _frame(name: str, data: bytes) -> bytes:
    """All but the numbers of a file of weights; empty for another kind of file."""
    if data[:4] == b"GGUF":
        return data[: _gguf(data)[2]] + str(len(data)).encode()
    if PurePath(name).suffix == ".safetensors":
        size = struct.unpack_from("<Q", data)[0]
        return data[: 8 + size] + str(len(data)).encode()
    return b""


def _statements(name: str, data: bytes) -> dict[Place, Any] | None:
    if data[:4] == b"GGUF":
        return {(key,): value for key, value, _, _ in _gguf(data)[0]}
    suffix = PurePath(name).suffix
    if suffix == ".safetensors":
        return None
    if suffix == ".json":
        return dict(_leaves(json.loads(data), ()))
    return None


def _leaves(tree: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Each value; a list of plain values is one."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*place, key))
    elif isinstance(tree, list) and any(isinstance(item, (dict, list)) for item in tree):
        for index, value in enumerate(tree):
            yield from _leaves(value, (*place, index))
    elif place:
        yield place, tree


def _says(place: Place, value: Any) -> bool:
    is_no_token = str(place[-1]).endswith("_token_id") and type(value) is int and value < 0
    return value not in (None, []) and not is_no_token and "dropout" not in str(place[-1])


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or repr(one) == repr(other))


def _gguf(data: bytes) -> tuple[list[tuple[str, bytes, int, int]], int, int]:
    """Keys of a GGUF file with the bytes of their values and where each entry lies, and where tensors' names and the
    tensors themselves begin."""
    tensors, keys = struct.unpack_from("<QQ", data, 8)
    at, entries = 24, []
    for _ in range(keys):
        start = at
        key, at = _gguf_string(data, at)
        kind = struct.unpack_from("<I", data, at)[0]
        end = _gguf_end(data, at + 4, kind)
        entries.append((key, data[at:end], start, end))
        at = end
    names = at
    for _ in range(tensors):
        _, at = _gguf_string(data, at)
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 12
        if at > len(data):
            raise ValueError("the file ends within its header")
    return entries, names, at


def _gguf_string(data: bytes, at: int) -> tuple[str, int]:
    length = struct.unpack_from("<Q", data, at)[0]
    if at + 8 + length > len(data):
        raise ValueError("a string is longer than its file")
    return data[at + 8 : at + 8 + length].decode("utf-8", "replace"), at + 8 + length


def _gguf_end(data: bytes, at: int, kind: int) -> int:
    if kind == _GGUF_STRING:
        return _gguf_string(data, at)[1]
    if kind != _GGUF_ARRAY:
        return at + _GGUF_SIZES[kind]
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in _GGUF_SIZES:
        at += _GGUF_SIZES[inner] * count
    else:
        for _ in range(count):
            at = _gguf_end(data, at, inner)
    if at > len(data):
        raise ValueError("an array is longer than its file")
    return at


def _without_keys(data: bytes, keys: set[str]) -> bytes:
    entries, names, end = _gguf(data)
    kept = [data[start:stop] for key, _, start, stop in entries if key not in keys]
    header = data[:16] + struct.pack("<Q", len(kept)) + b"".join(kept) + data[names:end]
    return header + bytes(-len(header) % _ALIGNMENT) + data[end + -end % _ALIGNMENT :]
