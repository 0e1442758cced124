"""Turns running out of memory into an error that names what was requested, whatever a library says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jisu.exporter.contract.errors import InputError

# How onnxruntime, torch and C++ word it; their errors share no class with Python's MemoryError.
_WORDS = ("bad_alloc", "failed to allocate", "can't allocate memory", "out of memory", "maximum allowed dimension")


@contextmanager
def catch_out_of_memory(*, rows: int, tokens: int) -> Iterator[None]:
    """Let everything through but a lack of memory, which becomes an InputError naming the rows and their tokens."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, MemoryError) and not any(word in str(error).lower() for word in _WORDS):
            raise
        raise InputError(
            "There is not enough memory",
            received=f"{rows} row{'s' if rows > 1 else ''} of {tokens} tokens",
            allowed="what this machine has room for",
            fix="Shorten the prompts, give fewer at a time, or ask for fewer new tokens.",
        ) from error
