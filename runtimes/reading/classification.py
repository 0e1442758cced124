"""Token ids of texts -> labels and probabilities, on any backend for classifiers. Knows nothing of tokenizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import Logits
from jisu.exporter.contract.one_pass_backend import OnePassBackend, Rows
from jisu.runtimes.reading.row_groups import row_groups

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What a text was found to be.

    ``probabilities`` has every label in the model's order; they sum to 1. ``probability`` is that of ``label``, the
    largest. ``tokens`` counts what the model read, special tokens included.
    """

    label: str
    probability: float
    probabilities: Mapping[str, float]
    tokens: int


def classify_rows(backend: OnePassBackend, rows: Rows, labels: Sequence[str]) -> list[Classification]:
    """Classify rows of any lengths; the order is kept, whatever goes into one call.

    Raises:
        InputError: an empty or a too long row, or an unknown token id.
    """
    logits: Logits = np.empty((len(rows), len(labels)), np.float32)
    for group in row_groups([len(row) for row in rows], equal=not backend.takes_unequal):
        logits[group] = backend.outputs([rows[index] for index in group])
    return [
        _classification(values, labels, tokens=len(row))
        for values, row in zip(probabilities_of(logits), rows, strict=True)
    ]


def probabilities_of(logits: Logits) -> Probabilities:
    """softmax(x) = exp(x - max) / sum(exp(x - max)) of each row, float64 like [B, labels]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: Probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _classification(values: Probabilities, labels: Sequence[str], *, tokens: int) -> Classification:
    best = int(values.argmax())
    return Classification(
        label=labels[best],
        probability=float(values[best]),
        probabilities={label: float(value) for label, value in zip(labels, values, strict=True)},
        tokens=tokens,
    )
