"""Does a finished configuration hold what a GGUF file says, and is a key that nobody knows a damaged one?"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from jisu.exporter.sources.account import Account
from jisu.exporter.sources.gguf.keys import GEOMETRY_KEYS, HARMLESS, MEANINGS, NEEDED, OFF
from jisu.exporter.sources.gguf.rotary import KEYS as ROTARY_KEYS

NO_COUNTERPART = "the model class has no counterpart"
UNLIKE = "the model class is built with another value"
_NEAR = 0.9  # likeness of two names of which one is a damaged spelling of the other


def compare_config(
    config: Any, places: Mapping[str, tuple[str, Any]], *, account: Account, architecture: str
) -> Account:
    """The account, in which every value that the finished configuration does not hold is refused.

    Args:
        places: key without the architecture -> the field that it went to, and the value there.
    """
    for key, (field, value) in places.items():
        name = f"{architecture}.{key}"
        if are_equal(getattr(config, field, None), value):
            account = account.state("gguf", name, fate="used", why="" if field == key else field)
        else:
            account = account.state("gguf", name, fate="refused", why=f"{UNLIKE}: {field}")
    return account


def nearest_key(key: str, architecture: str) -> str | None:
    """The hyper-parameter that a key is a damaged or foreign spelling of; None for a key of another kind."""
    known = [*MEANINGS, *OFF, *HARMLESS, *NEEDED, *ROTARY_KEYS, *GEOMETRY_KEYS]
    prefix, _, suffix = key.partition(".")
    if suffix in known:
        return f"{architecture}.{suffix}"
    if room := difflib.get_close_matches(prefix, ("tokenizer", "general"), n=1, cutoff=0.8):
        return f"{room[0]}.{suffix}"
    near = difflib.get_close_matches(key, [f"{architecture}.{name}" for name in known], n=1, cutoff=_NEAR)
    return near[0] if near else None


def switched_off(value: Any, allowed: tuple[Any, ...]) -> tuple[str, str]:
    """Whether a value switches off what the model class does not have."""
    if any(are_equal(value, one) for one in allowed):
        return "harmless", "switched off"
    return "refused", NO_COUNTERPART


def are_equal(actual: Any, stated: Any) -> bool:
    """Whether two values are the same, floats to within what a file rounds."""
    if isinstance(actual, float) or isinstance(stated, float):
        try:
            if math.isnan(stated):
                return math.isnan(actual)
            return abs(float(actual) - float(stated)) <= 1e-6 * abs(float(stated))
        except (TypeError, ValueError, OverflowError):
            return False
    return bool(actual == stated)
