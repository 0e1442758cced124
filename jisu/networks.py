"""Small networks to train on one's own texts: n-gram, LSTM, GRU and Transformer, as language model or classifier.

They are `torch.nn.Module`s that `jisu.export` takes as they are; examples/text_rnn trains all of them. torch is
imported with the first of the two modules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from jisu.exporter.models.settings import NETWORKS, PAD_ID, ModelSettings

if TYPE_CHECKING:
    from jisu.exporter.models.classifier import Classifier
    from jisu.exporter.models.language_model import LanguageModel

_MODULES = {
    "Classifier": "jisu.exporter.models.classifier",
    "LanguageModel": "jisu.exporter.models.language_model",
}

__all__ = ["NETWORKS", "PAD_ID", "Classifier", "LanguageModel", "ModelSettings"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
