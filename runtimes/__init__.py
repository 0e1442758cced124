"""Artifact -> tokens: one generate loop over interchangeable backends. Importing it imports no heavy package."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtimes.backends.registry import BACKENDS as BACKENDS
    from runtimes.backends.registry import register_backend as register_backend
    from runtimes.conversation import Conversation as Conversation
    from runtimes.engine import Engine as Engine
    from runtimes.engine import load as load
    from runtimes.generation.classification import Classification as Classification
    from runtimes.generation.options import SamplingOptions as SamplingOptions
    from runtimes.generation.result import Result as Result
    from runtimes.generation.scoring import TokenScores as TokenScores
    from runtimes.generation.text_stream import TextStream as TextStream

_PUBLIC = {
    "BACKENDS": "runtimes.backends.registry",
    "Classification": "runtimes.generation.classification",
    "Conversation": "runtimes.conversation",
    "Engine": "runtimes.engine",
    "Result": "runtimes.generation.result",
    "SamplingOptions": "runtimes.generation.options",
    "TextStream": "runtimes.generation.text_stream",
    "TokenScores": "runtimes.generation.scoring",
    "load": "runtimes.engine",
    "register_backend": "runtimes.backends.registry",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'runtimes' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
