"""Artifact -> tokens: one generate loop over interchangeable backends. Importing it imports no heavy package."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtimes.classification import Classification as Classification
    from runtimes.conversation import Conversation as Conversation
    from runtimes.engine import Engine as Engine
    from runtimes.engine import load as load
    from runtimes.options import SamplingOptions as SamplingOptions
    from runtimes.registry import BACKENDS as BACKENDS
    from runtimes.registry import register_backend as register_backend
    from runtimes.result import Result as Result
    from runtimes.scoring import TokenScores as TokenScores
    from runtimes.text_stream import TextStream as TextStream

_PUBLIC = {
    "BACKENDS": "runtimes.registry",
    "Classification": "runtimes.classification",
    "Conversation": "runtimes.conversation",
    "Engine": "runtimes.engine",
    "Result": "runtimes.result",
    "SamplingOptions": "runtimes.options",
    "TextStream": "runtimes.text_stream",
    "TokenScores": "runtimes.scoring",
    "load": "runtimes.engine",
    "register_backend": "runtimes.registry",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'runtimes' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
