"""Checkpoint in, verified artifact out: sources, tracing, passes, the gate, and the artifact on disk.

It does not know how artifacts are served. Importing it imports nothing heavy: the public functions, and torch with
them, are loaded when they are first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporter.export import export
    from exporter.sources import load_source
    from exporter.verify import verify

# public name -> the module that has it
NAMES = {"export": "exporter.export", "load_source": "exporter.sources", "verify": "exporter.verify"}

__all__ = ["export", "load_source", "verify"]


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(NAMES[name]), name)


class _Package(ModuleType):
    """Keeps `exporter.export` the function: importing the submodule of that name would put the module in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in NAMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
