"""Artifact -> tokens: one generate loop over interchangeable backends. Importing it imports no heavy package."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jisu.runtimes.backends.registry import BACKENDS as BACKENDS
    from jisu.runtimes.backends.registry import register_backend as register_backend
    from jisu.runtimes.conversation import Conversation as Conversation
    from jisu.runtimes.engine import Engine as Engine
    from jisu.runtimes.generation.options import SamplingOptions as SamplingOptions
    from jisu.runtimes.generation.result import Result as Result
    from jisu.runtimes.generation.scoring import TokenScores as TokenScores
    from jisu.runtimes.generation.text_stream import TextStream as TextStream
    from jisu.runtimes.opening import load as load
    from jisu.runtimes.reading.classification import Classification as Classification

_PUBLIC = {
    "BACKENDS": "jisu.runtimes.backends.registry",
    "Classification": "jisu.runtimes.reading.classification",
    "Conversation": "jisu.runtimes.conversation",
    "Engine": "jisu.runtimes.engine",
    "Result": "jisu.runtimes.generation.result",
    "SamplingOptions": "jisu.runtimes.generation.options",
    "TextStream": "jisu.runtimes.generation.text_stream",
    "TokenScores": "jisu.runtimes.generation.scoring",
    "load": "jisu.runtimes.opening",
    "register_backend": "jisu.runtimes.backends.registry",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'runtimes' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(_PUBLIC)


if __name__ == "runtimes":  # by its folder's name, in a clone
    from jisu.folder_names import use_folder_name

    use_folder_name(__name__)
