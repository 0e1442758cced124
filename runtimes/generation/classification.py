"""Token ids of texts -> labels and probabilities, on any backend for classifiers. Knows nothing of tokenizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import Logits
from jisu.exporter.contract.classifier_backend import ClassifierBackend, Rows
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.generation.prompts import is_listed

Probabilities = npt.NDArray[np.float64]
# One call takes at most so many rows, and so many tokens with the padding, of which at least this share is no padding.
_ROWS, _TOKENS, _FILLED = 32, 4096, 0.75


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


def classify_rows(backend: ClassifierBackend, rows: Rows, labels: Sequence[str]) -> list[Classification]:
    """Classify rows of any lengths; the order is kept, whatever goes into one call.

    Raises:
        InputError: an empty or a too long row, or an unknown token id.
    """
    logits: Logits = np.empty((len(rows), len(labels)), np.float32)
    for group in _groups([len(row) for row in rows], equal=not backend.takes_unequal):
        logits[group] = backend.logits([rows[index] for index in group])
    return [
        _classification(values, labels, tokens=len(row))
        for values, row in zip(probabilities_of(logits), rows, strict=True)
    ]


def probabilities_of(logits: Logits) -> Probabilities:
    """softmax(x) = exp(x - max) / sum(exp(x - max)) of each row, float64 like [B, labels]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: Probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def check_texts(texts: object) -> list[str]:
    """One text, or each of several; raises InputError for anything else and for an empty one."""
    checked: list[str] = []
    listed: Any = texts if is_listed(texts) else [texts]
    for number, text in enumerate(listed, start=1):
        if not isinstance(text, str):
            raise InputError(
                "This is not a text",
                received=shown(text),
                allowed="a text, or a list of texts",
                fix="Give token ids to classify_ids, one list for each text.",
            )
        if not text.strip():
            which = "The text" if len(listed) == 1 else f"Text {number} of {len(listed)}"
            raise InputError(f"{which} is empty", received=repr(text), allowed="some text", fix="Leave it out.")
        checked.append(text)
    return checked


def _classification(values: Probabilities, labels: Sequence[str], *, tokens: int) -> Classification:
    best = int(values.argmax())
    return Classification(
        label=labels[best],
        probability=float(values[best]),
        probabilities={label: float(value) for label, value in zip(labels, values, strict=True)},
        tokens=tokens,
    )


def _groups(lengths: Sequence[int], *, equal: bool) -> Iterator[list[int]]:
    """Indices of the rows of each call, the longest first; rows of one call are of about, or exactly, one length."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[group[0]] if group else lengths[index]
        fits = len(group) < _ROWS and (len(group) + 1) * longest <= _TOKENS
        alike = lengths[index] == longest if equal else lengths[index] >= _FILLED * longest
        if group and not (fits and alike):
            yield group
            group = []
        group.append(index)
    if group:
        yield group
