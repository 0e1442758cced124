"""One value of a record by its dotted path, such as ``gate.checks.prefill-2.value``; for scripts.

Keys may have dots themselves (``files.model.onnx.size``); an entry of a list is named by its index or by its ``name``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jisu.exporter.contract.errors import InputError

_SHOWN = 12


def field_of(record: Mapping[str, Any], path: str) -> Any:
    """The value at a path.

    Raises:
        InputError: there is none; the message has the nearest path there is, and the keys where this one ends.
    """
    value: Any = record
    parts = path.split(".")
    while parts:
        keys = _keys(value)
        length = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in keys), None)
        if length is None:
            raise _no_such_field(record, path, keys)
        value, parts = _entry(value, ".".join(parts[:length])), parts[length:]
    return value


def _no_such_field(record: Mapping[str, Any], path: str, keys: Sequence[str]) -> InputError:
    near = difflib.get_close_matches(path, list(_paths(record)), n=1, cutoff=0.5)
    shown = [*keys[:_SHOWN], *(["..."] if len(keys) > _SHOWN else [])]
    return InputError(
        f"There is no field {path}",
        received=path,
        allowed=", ".join(shown) or "nothing below this value",
        fix=f"Did you mean {near[0]}?" if near else "Correct the path, or leave --field out to see all.",
    )


def _keys(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [str(key) for key in value]
    if isinstance(value, list):
        names = [str(item["name"]) for item in value if isinstance(item, Mapping) and "name" in item]
        return [*names, *map(str, range(len(value)))]
    return []


def _entry(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return value[key]
    named = [item for item in value if isinstance(item, Mapping) and str(item.get("name")) == key]
    return named[0] if named else value[int(key)]


def _paths(value: Any, above: str = "") -> Iterator[str]:
    """Every path there is, those of lists by the entries' names where they have such."""
    for key in dict.fromkeys(_keys(value)):
        if isinstance(value, list) and key.isdigit() and any(isinstance(item, Mapping) for item in value):
            continue
        path = f"{above}.{key}" if above else key
        yield path
        yield from _paths(_entry(value, key), path)
