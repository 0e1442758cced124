"""A candidate that reads whole texts before its examiners, and what has been seen of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import EMBEDDING, ModelKind
from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.exam import Floats
from jisu.exporter.gate.quality import kl_divergence
from jisu.exporter.gate.texts import GateTexts
from jisu.exporter.precision.budget import Budget

if TYPE_CHECKING:
    from jisu.exporter.contract.one_pass_backend import OnePassBackend
    from jisu.exporter.gate.one_pass_reference import OnePassReference

# What is given for one text: float32 [1, columns], or [T, columns] of a model with a row for each token.
Numbers = npt.NDArray[np.float32]
# A scale is at least this share of the numbers' magnitude, so that a model that always says the same is not judged by
# its rounding.
_LEAST_SPREAD = 1e-3
# How far a row of a batch may be from the same row alone in reduced precision, in standard deviations of the logits.
# Divergence over a few labels is too blunt for it. Integer weights, and inputs rounded token by token, were measured
# to stay below 1e-5; a dropped mask moves a row by more than 0.1.
SELF_ERROR = 0.05
# The same of a vector, as 1 - cosine. Inputs rounded in blocks of 128 move vectors of MiniLM by up to 1e-3.
SELF_TURN = 0.01
DISTANCE = "sd of the logits"
# A single text may have so many times the distance that the held-out texts may have, and at least the second: it is
# asked to find faults, not rounding.
_SINGLE, _LEAST = 3.0, 0.02


@dataclass
class OnePassExam:
    """One candidate and what it has to match."""

    backend: OnePassBackend
    reference: OnePassReference
    texts: GateTexts
    budget: Budget
    nonfinite: int = 0
    first_nonfinite: str | None = None
    source_nonfinite: bool = False
    failing_tokens: TokenIds | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    _truths: dict[bytes, Numbers] = field(default_factory=dict)
    _scale: float | None = None

    @property
    def kind(self) -> ModelKind:
        return self.reference.kind

    @property
    def strict(self) -> bool:
        """Whether every single number is compared."""
        return self.budget.max_logit_error is not None

    @property
    def noun(self) -> str:
        return "number" if self.kind == EMBEDDING else "logit"

    @property
    def unit_of_columns(self) -> str:
        return "dimensions" if self.kind == EMBEDDING else "words" if self.kind == "fill-mask" else "labels"

    def truth(self, row: TokenIds) -> Numbers:
        """What the source gives for a text, computed once."""
        key = row.tobytes()
        if key not in self._truths:
            self._truths[key] = numbers = self.reference.logits(row)
            self.source_nonfinite |= not bool(np.isfinite(numbers).all())
        return self._truths[key]

    def candidate(self, rows: Sequence[TokenIds], label: str) -> list[Numbers]:
        """What the candidate gives for some texts in one call; without what lies behind a text's own tokens."""
        numbers = self.backend.outputs([row.tolist() for row in rows])
        expected = (len(rows), *([max(map(len, rows))] if self.backend.per_token else []), self.reference.columns)
        if numbers.shape != expected:
            raise ValueError(f"logits of shape {numbers.shape} where {list(expected)} is expected")
        texts = [
            one[: len(row)] if self.backend.per_token else one[None] for one, row in zip(numbers, rows, strict=True)
        ]
        bad = sum(int((~np.isfinite(one)).sum()) for one in texts)
        self.nonfinite += bad
        if bad and self.first_nonfinite is None:
            self.first_nonfinite = label
        return texts

    @property
    def scale(self) -> float:
        """What an error is measured in: the standard deviation of the source's numbers, over columns and texts."""
        if self._scale is None:
            rows = [*self.texts.alone, *self.texts.rows, *self.texts.windows[:16]]
            numbers = np.concatenate([self.truth(row) for row in rows]).astype(np.float64)
            size = float(np.sqrt(np.mean(np.square(numbers))))
            self._scale = max(float(numbers.std()), _LEAST_SPREAD * size, float(np.finfo(np.float32).tiny))
        return self._scale

    def error(self, truth: Numbers, candidate: Numbers) -> float:
        """How far a text is off, in `unit`: its worst row where all is compared, otherwise the mean of its rows.

        NaN where a number is not finite, and for texts of different sizes.
        """
        if self.strict:
            return self.distance(truth, candidate)
        if truth.shape != candidate.shape or not np.isfinite(candidate).all():
            return float("nan")
        if self.kind == EMBEDDING:
            return float(1 - cosines(truth, candidate).min())
        return float(kl_divergence(truth, candidate).mean())

    def distance(self, truth: Numbers, candidate: Numbers) -> float:
        """max |candidate - truth| / scale over a text; NaN where a number is not finite."""
        if truth.shape != candidate.shape or not np.isfinite(candidate).all():
            return float("nan")
        with np.errstate(over="ignore"):
            return float(np.abs(candidate.astype(np.float64) - truth).max() / self.scale)

    def self_error(self, expected: Numbers, candidate: Numbers) -> float:
        """How far a text in a batch is from itself alone, in the unit of `self_limit`."""
        turns = self.kind == EMBEDDING and not self.strict
        return self.error(expected, candidate) if turns else self.distance(expected, candidate)

    @property
    def self_limit(self) -> tuple[float, str]:
        """How far a text in a batch may be from itself alone in a reduced precision, and the unit."""
        return (SELF_TURN, self.unit) if self.kind == EMBEDDING else (SELF_ERROR, DISTANCE)

    @property
    def unit(self) -> str:
        if self.strict:
            return DISTANCE
        return "1 - cosine" if self.kind == EMBEDDING else "nats"

    @property
    def limit(self) -> float:
        if self.budget.max_logit_error is not None:
            return self.budget.max_logit_error
        if self.kind == EMBEDDING:
            return max(_LEAST, _SINGLE * (1 - (self.budget.min_cosine or 0.0)))
        assert self.budget.max_check_kl is not None  # Budget sees to it
        return self.budget.max_check_kl


def cosines(truth: Numbers, candidate: Numbers) -> Floats:
    """a b / (|a| |b|) of each pair of rows, float64 [N]; NaN where one is not finite, 0 where one is zero."""
    one, other = truth.astype(np.float64), candidate.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        values: Floats = (one * other).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return values
