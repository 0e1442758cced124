"""What makes a transformers checkpoint a classifier of texts, and what its labels are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError

# What `problem_type` may say; None is decided by the number of labels, as transformers does it.
_SINGLE = "single_label_classification"


def classifier_class(config: Any) -> Any | None:
    """The transformers class that the configuration names as its architecture, when that classifies texts."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    named = getattr(config, "architectures", None)
    architectures = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return None
    classes: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    listed = classes if isinstance(classes, tuple) else (classes,)
    return next((one for one in listed if one.__name__ in architectures), None)


def read_labels(config: Any, checkpoint: Path) -> tuple[str, ...]:
    """The labels in the order of the logits.

    Raises:
        InputError: fewer than two labels, labels that share a name, or a task that has no one label for a text.
    """
    kind = getattr(config, "problem_type", None)
    if kind not in (None, _SINGLE):
        raise InputError(
            f"{checkpoint} does not give one label to a text",
            received=f"problem_type {kind!r} in config.json",
            allowed=f"{_SINGLE}: probabilities that sum to 1, of which the largest is the label",
            fix="Choose a model that was trained for it.",
        )
    named = config.id2label if isinstance(config.id2label, dict) else {}
    labels = tuple(str(named.get(index)) for index in range(len(named)))
    faults = []
    if set(named) != set(range(len(named))):
        faults.append(f"ids {sorted(named)}")
    if len(labels) < 2:
        faults.append(f"{len(labels)} label{'' if len(labels) == 1 else 's'}")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        faults.append(f"the label {twice!r} more than once")
    if faults:
        raise InputError(
            f"The labels of {checkpoint} cannot be told apart",
            received=f"id2label with {', '.join(faults)}",
            allowed="two labels or more, numbered from 0, each with a name of its own",
            fix="Correct id2label in config.json. A model with one output estimates a number and gives no label.",
        )
    return labels
