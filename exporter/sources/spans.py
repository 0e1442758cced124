"""What a configuration says of how far attention reaches: heads, windows, and where angles are computed otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_WINDOW = re.compile(r"window|chunk_size|local_attention|block_size")
_SWITCH = re.compile(r"original_max_position_embeddings|original_context|switch_position")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads")
_UNKNOWN_HEADS = 32
_LARGEST = 1 << 24


def window_sizes(module: Any) -> tuple[int, ...]:
    """Every number of a transformers configuration that may be a window, ascending; none for other modules."""
    return tuple(sorted({number for key, number in _numbers(module) if _WINDOW.search(key) and number > 1}))


def switch_points(module: Any) -> tuple[int, ...]:
    """Positions from which on angles are computed otherwise (longrope, yarn), ascending."""
    return tuple(sorted({number for key, number in _numbers(module) if _SWITCH.search(key) and number > 1}))


def attention_heads(module: Any) -> int:
    """Of the widest layer that the configuration tells of."""
    counts = [number for key, number in _numbers(module) if key in _HEADS]
    return max(counts, default=_UNKNOWN_HEADS)


def _numbers(module: Any) -> Iterator[tuple[str, int]]:
    config: Any = getattr(module, "config", None)
    described = config.to_dict() if hasattr(config, "to_dict") else {}
    yield from _within("", described)


def _within(key: str, value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _within(str(name), item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _within(key, item)
    elif isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST:
        yield key, value
