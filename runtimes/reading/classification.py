"""Token ids of texts -> labels and scores, on any backend for classifiers. Knows nothing of tokenizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import Activation
from jisu.exporter.contract.backend import Logits
from jisu.exporter.contract.one_pass_backend import OnePassBackend, Rows
from jisu.runtimes.reading.row_groups import row_groups

Scores = npt.NDArray[np.float64]
# From this probability on a text has a label, where it may have several.
_HAS = 0.5


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What a text was found to be.

    ``scores`` has every label in the model's order, and ``score`` is that of ``label``, the largest. Scores are
    probabilities that sum to 1 where a text has one label (``activation`` softmax), a probability each where it may
    have several (sigmoid), and numbers of any size where the model estimates some (none). ``labels`` are those that
    the text has: of several the ones with a probability of 0.5 or more, otherwise ``label`` alone. ``tokens`` counts
    what the model read, special tokens included.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    tokens: int
    activation: Activation = "softmax"

    @property
    def probability(self) -> float:
        """The same as ``score``, which is a probability unless the model estimates numbers."""
        return self.score

    @property
    def probabilities(self) -> Mapping[str, float]:
        """The same as ``scores``."""
        return self.scores

    @property
    def labels(self) -> tuple[str, ...]:
        if self.activation != "sigmoid":
            return (self.label,)
        return tuple(label for label, score in self.scores.items() if score >= _HAS)


def classify_rows(
    backend: OnePassBackend,
    rows: Rows,
    labels: Sequence[str],
    *,
    types: Rows | None = None,
    activation: Activation = "softmax",
) -> list[Classification]:
    """Classify rows of any lengths; the order is kept, whatever goes into one call.

    Args:
        types: of the tokens of pairs of texts, see `exporter.contract.one_pass_backend.OnePassBackend.outputs`.
        activation: what becomes of the logits.

    Raises:
        InputError: an empty or a too long row, or an unknown token id.
    """
    scores = scores_of(read_logits(backend, rows, types), activation)
    return [
        _classification(values, labels, tokens=len(row), activation=activation)
        for values, row in zip(scores, rows, strict=True)
    ]


def read_logits(backend: OnePassBackend, rows: Rows, types: Rows | None = None) -> Logits:
    """What a model gives for each row, float32 [N, columns]; rows of like lengths go into one call."""
    logits: Logits = np.empty((len(rows), backend.columns), np.float32)
    for group in row_groups([len(row) for row in rows], equal=not backend.takes_unequal):
        of_group = None if types is None else [types[index] for index in group]
        logits[group] = backend.outputs([rows[index] for index in group], of_group)
    return logits


def scores_of(logits: Logits, activation: Activation) -> Scores:
    """softmax(x) = exp(x - max) / sum(exp(x - max)) of each row, sigmoid(x) = 1 / (1 + exp(-x)), or x; float64."""
    if activation == "softmax":
        return probabilities_of(logits)
    values: Scores = logits.astype(np.float64)
    if activation == "sigmoid":
        # exp of nothing positive: no overflow on either side
        small = np.exp(-np.abs(values))
        values = np.where(values >= 0, 1 / (1 + small), small / (1 + small))
    return values


def probabilities_of(logits: Logits) -> Scores:
    """softmax over the last axis, float64 in the shape of the logits."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: Scores = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities


def _classification(values: Scores, labels: Sequence[str], *, tokens: int, activation: Activation) -> Classification:
    best = int(values.argmax())
    return Classification(
        label=labels[best],
        score=float(values[best]),
        scores={label: float(value) for label, value in zip(labels, values, strict=True)},
        tokens=tokens,
        activation=activation,
    )
