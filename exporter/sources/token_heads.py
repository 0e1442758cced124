"""Heads that give each token of a text something: labels, words in the place of masks, or an answer's two ends.

Which one a checkpoint has is what its configuration names as its architecture, looked up in transformers' own tables.
"""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.artifact import ANSWERING, FILLING, TAGGING, ModelKind
from jisu.exporter.sources.named_classes import listed_classes, named_architectures

# Names of the two columns that say where an answer begins and ends.
ENDS = ("start", "end")


def token_head(config: Any) -> tuple[ModelKind, Any] | None:
    """The kind of a model and the class of transformers that loads it; None where no such head is named."""
    return next(
        (
            (kind, named)
            for kind, mapping in _mappings()
            if (named := named_class(config, mapping)) is not None and not _is_decoder(kind, config)
        ),
        None,
    )


def head_of_class(module_class: type) -> ModelKind | None:
    """The kind of a model that is at hand, by its class."""
    return next((kind for kind, mapping in _mappings() if module_class in _classes(mapping)), None)


def named_class(config: Any, mapping: Any) -> Any | None:
    """The class that a configuration names as its architecture, when a table of transformers has it."""
    named = named_architectures(config)
    return next((one for one in listed_classes(mapping, config) if one.__name__ in named), None)


def _is_decoder(kind: ModelKind, config: Any) -> bool:
    """Whether a masked language model reads only what comes before, or has a decoder: it then writes texts."""
    pair = bool(getattr(config, "is_encoder_decoder", False))
    return kind == FILLING and (pair or bool(getattr(config, "is_decoder", False)))


def _mappings() -> tuple[tuple[ModelKind, Any], ...]:
    from transformers import (
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_QUESTION_ANSWERING_MAPPING,
        MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    )

    return (
        (TAGGING, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING),
        (ANSWERING, MODEL_FOR_QUESTION_ANSWERING_MAPPING),
        (FILLING, MODEL_FOR_MASKED_LM_MAPPING),
    )


def _classes(mapping: Any) -> set[Any]:
    return {one for value in mapping.values() for one in (value if isinstance(value, tuple) else (value,))}
