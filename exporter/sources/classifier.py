"""What makes a transformers checkpoint a classifier of texts, what its labels are called, and what its logits mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import Activation
from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.jsonfile import read_json
from jisu.exporter.sources.token_heads import named_class

# What `problem_type` may say; None is decided by the number of labels, as transformers does it.
_ACTIVATIONS: dict[str, Activation] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "none",
}
# Where sentence-transformers records what a cross-encoder does with its logits: in config.json under a key of its own,
# in older files under another one, and in newer ones in a file of its own.
CROSS_ENCODER_KEYS = ("sentence_transformers", "sbert_ce_default_activation_function")
_CROSS_ENCODER_FILE = "config_sentence_transformers.json"
_MODULES: dict[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "none", "Softmax": "softmax"}


def classifier_class(config: Any) -> Any | None:
    """The transformers class that the configuration names as its architecture, when that classifies texts."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    return named_class(config, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING)


def read_labels(config: Any, checkpoint: Path, *, least: int = 1) -> tuple[str, ...]:
    """The labels in the order of the logits.

    Args:
        least: labels that there have to be.

    Raises:
        InputError: fewer labels, or labels that share a name.
    """
    named = config.id2label if isinstance(config.id2label, dict) else {}
    labels = tuple(str(named.get(index)) for index in range(len(named)))
    faults = []
    if set(named) != set(range(len(named))):
        faults.append(f"ids {sorted(named)}")
    if len(labels) < least:
        faults.append(f"{len(labels)} label{'' if len(labels) == 1 else 's'}")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        faults.append(f"the label {twice!r} more than once")
    if faults:
        raise InputError(
            f"The labels of {checkpoint} cannot be told apart",
            received=f"id2label with {', '.join(faults)}",
            allowed=f"{least} label{'s' * (least > 1)} or more, numbered from 0, each with a name of its own",
            fix="Correct id2label in config.json.",
        )
    return labels


def read_activation(config: Any, checkpoint: Path, *, labels: int) -> Activation:
    """What becomes of a classifier's logits.

    A cross-encoder says it itself. Otherwise it is what `problem_type` means, and without one a single output becomes
    a probability, and several become probabilities that sum to 1, as in transformers' pipeline.

    Raises:
        InputError: a `problem_type` or a function that is not known, or labels that exclude each other where there is
            one.
    """
    stated = _cross_encoder(config, checkpoint)
    if stated is None:
        kind = getattr(config, "problem_type", None)
        if kind is None:
            return "sigmoid" if labels == 1 else "softmax"
        activation, where = (
            _ACTIVATIONS.get(kind if isinstance(kind, str) else ""),
            f"problem_type {kind!r} in config.json",
        )
        allowed = ", ".join(_ACTIVATIONS)
    else:
        activation, where = _MODULES.get(stated.rpartition(".")[2]), f"the activation {stated!r} of a cross-encoder"
        allowed = ", ".join(_MODULES)
    if activation == "softmax" and labels == 1:
        activation = None if stated is not None else "sigmoid"
        where += " with one label"
    if activation is None:
        raise InputError(
            f"What the scores of {checkpoint} are is not understood",
            received=where,
            allowed=allowed,
            fix="Correct it to what the model was trained with.",
        )
    return activation


def _cross_encoder(config: Any, checkpoint: Path) -> str | None:
    """The function that a cross-encoder's files name for its logits, spelled like a path in torch; None without one."""
    path = checkpoint / _CROSS_ENCODER_FILE
    own = read_json(path) if path.is_file() else {}
    inner = getattr(config, CROSS_ENCODER_KEYS[0], None)
    candidates = (
        own.get("activation_fn"),
        inner.get("activation_fn") if isinstance(inner, Mapping) else None,
        getattr(config, CROSS_ENCODER_KEYS[1], None),
    )
    return next((one for one in candidates if isinstance(one, str) and one), None)
