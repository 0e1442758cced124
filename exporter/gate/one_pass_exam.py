"""A candidate that reads whole texts before its examiners, and what has been seen of it so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import (
    ANSWERING,
    EMBEDDING,
    FILLING,
    PER_TOKEN_KINDS,
    TAGGING,
    Activation,
    ModelKind,
)
from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.exam import Floats
from jisu.exporter.gate.quality import kl_divergence, row_blocks
from jisu.exporter.gate.texts import GateTexts
from jisu.exporter.precision.budget import Budget

if TYPE_CHECKING:
    from jisu.exporter.contract.one_pass_backend import OnePassBackend

# What is given for one text: float32 [1, columns], or [T, columns] of a model with a row for each token.
Numbers = npt.NDArray[np.float32]
_KEPT = 1 << 21  # numbers of a text, at most, that are computed once
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
# Where every number is compared, it may be off by no more, in standard deviations of the source's numbers. float32
# itself moved those of 54 small models with heads (docs/families.md) by at most 1.8e-5, and vectors of all-MiniLM-L6-v2
# by 4.4e-6; no cache lets it grow. Tokens far behind in a text taken for padding moved logits by 5e-4.
STRICT_ERROR = 2e-4
# A single text may have so many times the distance that the held-out texts may have, and at least the second: it is
# asked to find faults, not rounding.
_SINGLE, _LEAST = 3.0, 0.02


class WholeTextReference(Protocol):
    """What is taken for the truth: a source that reads whole texts, see `exporter.gate.one_pass_reference`."""

    @property
    def kind(self) -> ModelKind: ...
    @property
    def columns(self) -> int: ...
    @property
    def activation(self) -> Activation: ...

    def logits(self, token_ids: TokenIds, positions: slice | None = None, types: TokenIds | None = None) -> Numbers: ...


@dataclass
class OnePassExam:
    """One candidate and what it has to match."""

    backend: OnePassBackend
    reference: WholeTextReference
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
        named: dict[ModelKind, str] = {EMBEDDING: "dimensions", FILLING: "words", TAGGING: "tags", ANSWERING: "ends"}
        return named.get(self.kind, "labels")

    @property
    def decides(self) -> bool:
        """Whether an answer is one of several, which can be the same; a single number is only near."""
        return self.kind in PER_TOKEN_KINDS or (self.reference.activation != "none" and self.reference.columns > 1)

    def truth(self, row: TokenIds) -> Numbers:
        """What the source gives for a text, computed once."""
        key = row.tobytes()
        if key not in self._truths:
            types = self.texts.types.get(key)
            more: dict[str, Any] = {} if types is None else {"types": types}
            numbers: Numbers = self.reference.logits(row, **more)
            self.source_nonfinite |= not bool(np.isfinite(numbers).all())
            if numbers.size > _KEPT:
                return numbers
            self._truths[key] = numbers
        return self._truths[key]

    def candidate(self, rows: Sequence[TokenIds], label: str) -> list[Numbers]:
        """What the candidate gives for some texts in one call; without what lies behind a text's own tokens."""
        types = [self.texts.types.get(row.tobytes()) for row in rows]
        more: dict[str, Any] = {}
        if any(one is not None for one in types):
            filled = zip(rows, types, strict=True)
            more["types"] = [[0] * len(row) if one is None else one.tolist() for row, one in filled]
        numbers = self.backend.outputs([row.tolist() for row in rows], **more)
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
            count, total, squares = 0, 0.0, 0.0
            for row in rows:
                for part in _blocks(self.truth(row)):
                    count, total = count + part.size, total + float(part.sum())
                    squares += float(np.square(part).sum())
            mean = total / count
            spread = float(np.sqrt(max(0.0, squares / count - mean**2)))
            size = float(np.sqrt(squares / count))
            self._scale = max(spread, _LEAST_SPREAD * size, float(np.finfo(np.float32).tiny))
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
        return float(self.divergence(truth, candidate).mean())

    def divergence(self, truth: Numbers, candidate: Numbers) -> Floats:
        """KL divergence of what the numbers mean, in nats, float64: of each row, and of an answer's two ends.

        A row of logits is a distribution over the columns; with a probability each, the mean over the columns of
        p log(p / q) + (1 - p) log((1 - p) / (1 - q)); numbers that are estimates count as normal distributions of the
        scale's width, (x - y)^2 / (2 scale^2).
        """
        if self.kind == ANSWERING:
            truth, candidate = truth.T, candidate.T
        if self.reference.activation == "softmax":
            return kl_divergence(truth, candidate)
        return self._divergence(truth.astype(np.float64), candidate.astype(np.float64))

    def _divergence(self, truth: Floats, candidate: Floats) -> Floats:
        if self.reference.activation == "none":
            estimates: Floats = (np.square((candidate - truth) / self.scale) / 2).mean(axis=1)
            return estimates
        both: Floats = np.zeros(truth.shape)
        for sign in (1.0, -1.0):  # log sigmoid(x) = -log(1 + exp(-x))
            ours, theirs = -np.logaddexp(0, -sign * candidate), -np.logaddexp(0, -sign * truth)
            both += np.exp(theirs) * (theirs - ours)
        divergence: Floats = both.mean(axis=1)
        return divergence

    def agreement(self, truth: Numbers, candidate: Numbers) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which answers are the same, and which the source itself decides so narrowly that its noise may change them.

        Two bool arrays of one length: an answer for each row, one alone for an answer's span.
        """
        if not self.decides:
            return np.ones(len(truth), bool), np.ones(len(truth), bool)
        noise = 2 * self.limit * self.scale if self.strict else 0.0
        if self.kind == ANSWERING:
            spans = [(_best_span(one), one) for one in (truth, candidate)]
            lost = _span_score(truth, spans[0][0]) - _span_score(truth, spans[1][0])
            return np.array([spans[0][0] == spans[1][0]]), np.array([lost <= 2 * noise])
        if self.reference.activation == "sigmoid":
            differs = (truth > 0) != (candidate > 0)
            return ~differs.any(axis=1), ~(differs & (np.abs(truth) > noise)).any(axis=1)
        one, other = truth.argmax(axis=1), candidate.argmax(axis=1)
        rows = np.arange(len(truth))
        lost_of_rows = truth[rows, one].astype(np.float64) - truth[rows, other]
        return one == other, lost_of_rows <= noise

    def distance(self, truth: Numbers, candidate: Numbers) -> float:
        """max |candidate - truth| / scale over a text; NaN where a number is not finite."""
        if truth.shape != candidate.shape or not np.isfinite(candidate).all():
            return float("nan")
        with np.errstate(over="ignore"):
            pairs = zip(_blocks(truth), _blocks(candidate), strict=True)
            return max(float(np.abs(one - other).max()) for one, other in pairs) / self.scale

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
            return min(STRICT_ERROR, self.budget.max_logit_error)
        if self.kind == EMBEDDING:
            return max(_LEAST, _SINGLE * (1 - (self.budget.min_cosine or 0.0)))
        assert self.budget.max_check_kl is not None  # Budget sees to it
        return self.budget.max_check_kl


def _blocks(numbers: Numbers) -> Iterator[Floats]:
    """The rows in float64, some at a time: those of a large vocabulary would need much memory at once."""
    for rows in row_blocks(*numbers.shape):
        yield numbers[rows].astype(np.float64)


def _best_span(ends: Numbers) -> tuple[int, int]:
    """The span i <= j of the largest start[i] + end[j], in one pass over [T, 2]."""
    first = np.maximum.accumulate(ends[:, 0])
    last = int((first + ends[:, 1]).argmax())
    return int(ends[: last + 1, 0].argmax()), last


def _span_score(ends: Numbers, span: tuple[int, int]) -> float:
    return float(ends[span[0], 0]) + float(ends[span[1], 1])


def cosines(truth: Numbers, candidate: Numbers) -> Floats:
    """a b / (|a| |b|) of each pair of rows, float64 [N]; NaN where one is not finite, 0 where one is zero."""
    one, other = truth.astype(np.float64), candidate.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        values: Floats = (one * other).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return values
