"""Which classes of transformers a configuration names, whatever else stands in the place of their names."""

from __future__ import annotations

from typing import Any


def named_architectures(config: Any) -> list[str]:
    """The names under ``architectures``; none where something else than names stands there."""
    named = getattr(config, "architectures", None)
    return [named] if isinstance(named, str) else [str(one) for one in named] if isinstance(named, list) else []


def listed_classes(mapping: Any, config: Any) -> tuple[Any, ...]:
    """All classes that a table of transformers has for a configuration."""
    if type(config) not in mapping:
        return ()
    classes = mapping[type(config)]
    return classes if isinstance(classes, tuple) else (classes,)
