"""The class of transformers that gives the states of a text's tokens, without any head."""

from __future__ import annotations

import inspect
from copy import deepcopy
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.named_classes import listed_classes, named_architectures

_POOLER = "add_pooling_layer"


class EncoderClass:
    """A model class that is built without the pooler that some have, which vectors of texts do not come from.

    It stands in for the class where a model is built: it is called with a configuration and has `from_pretrained`.
    """

    def __init__(self, model_class: Any) -> None:
        self._class = model_class
        self.__name__ = str(model_class.__name__)
        accepted = inspect.signature(model_class.__init__).parameters
        self._more = {_POOLER: False} if _POOLER in accepted else {}

    def __call__(self, config: Any) -> Any:
        # An encoder without its decoder writes into the configuration that it is one.
        return self._class(deepcopy(config), **self._more)

    def from_pretrained(self, *arguments: Any, config: Any, **options: Any) -> Any:
        return self._class.from_pretrained(*arguments, config=deepcopy(config), **options, **self._more)


def encoder_class(config: Any, checkpoint: Path) -> EncoderClass:
    """The model without a head; of one with an encoder and a decoder, its encoder.

    Raises:
        InputError: transformers has no such class for this configuration.
    """
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    pair = bool(getattr(config, "is_encoder_decoder", False))
    for mapping in (MODEL_FOR_TEXT_ENCODING_MAPPING,) if pair else (MODEL_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING):
        if type(config) in mapping:
            classes: Any = mapping[type(config)]
            return EncoderClass(classes[0] if isinstance(classes, tuple) else classes)
    raise InputError(
        f"{checkpoint} is no encoder of text",
        received=f"model type {config.model_type!r}",
        allowed="a model type whose class in transformers gives the states of a text's tokens",
        fix="Choose another model, or leave --pooling out.",
    )


def names_encoder(config: Any) -> bool:
    """Whether the configuration names a class without a head, as plain encoders do."""
    from transformers import MODEL_MAPPING

    named = named_architectures(config)
    return len(named) == 1 and named[0] in {one.__name__ for one in listed_classes(MODEL_MAPPING, config)}
