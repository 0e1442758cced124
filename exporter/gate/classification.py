"""The gate of a classifier: the same texts through the candidate and its source, alone, in batches and by label.

Like `exporter.gate.run` it sees the exported model only as a backend and the truth only as a reference, and whatever a
candidate does ends in a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.exam import Floats
from jisu.exporter.gate.intervals import Interval, mean_interval, share_interval
from jisu.exporter.gate.quality import badness, kl_divergence
from jisu.exporter.gate.result import Check, GateResult
from jisu.exporter.gate.run import Progress, Step, located, run_check
from jisu.exporter.gate.texts import GateTexts
from jisu.exporter.precision.budget import Budget

if TYPE_CHECKING:
    from jisu.exporter.contract.classifier_backend import ClassifierBackend
    from jisu.exporter.gate.classifier_reference import ClassifierReference

Logits = npt.NDArray[np.float32]
# A scale is at least this share of the logits' magnitude, so that a model that always says the same is not judged by
# its rounding.
_LEAST_SPREAD = 1e-3
# How far a row of a batch may be from the same row alone in reduced precision, in standard deviations of the logits.
# Divergence over a few labels is too blunt for it. Integer weights, and inputs rounded token by token, were measured
# to stay below 1e-5; a dropped mask moves a row by more than 0.1.
_SELF_ERROR = 0.05
_DISTANCE = "sd of the logits"


@dataclass
class _Exam:
    """One candidate before its examiners, and what has been seen of it so far."""

    backend: ClassifierBackend
    reference: ClassifierReference
    texts: GateTexts
    budget: Budget
    nonfinite: int = 0
    first_nonfinite: str | None = None
    source_nonfinite: bool = False
    failing_tokens: TokenIds | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    _truths: dict[bytes, Logits] = field(default_factory=dict)
    _scale: float | None = None

    def truth(self, row: TokenIds) -> Logits:
        """The source's logits of a text, float32 [1, labels], computed once."""
        key = row.tobytes()
        if key not in self._truths:
            self._truths[key] = logits = self.reference.logits(row)
            self.source_nonfinite |= not bool(np.isfinite(logits).all())
        return self._truths[key]

    def candidate(self, rows: Sequence[TokenIds], label: str) -> Logits:
        """The candidate's logits of some texts in one call, float32 [B, labels]."""
        logits = self.backend.logits([row.tolist() for row in rows])
        expected = (len(rows), self.reference.labels)
        if logits.shape != expected:
            raise ValueError(f"logits of shape {logits.shape} where {list(expected)} is expected")
        bad = ~np.isfinite(logits)
        self.nonfinite += int(bad.sum())
        if bad.any() and self.first_nonfinite is None:
            self.first_nonfinite = label
        return logits

    @property
    def scale(self) -> float:
        """What an error is measured in: the standard deviation of the source's logits, over labels and texts."""
        if self._scale is None:
            rows = [*self.texts.alone, *self.texts.rows, *self.texts.windows[:16]]
            logits = np.concatenate([self.truth(row) for row in rows]).astype(np.float64)
            size = float(np.sqrt(np.mean(np.square(logits))))
            self._scale = max(float(logits.std()), _LEAST_SPREAD * size, float(np.finfo(np.float32).tiny))
        return self._scale

    def errors(self, truth: Logits, candidate: Logits) -> Floats:
        """How far each row is off, float64 [N], in `unit`; NaN where it is not finite."""
        if self.budget.max_logit_error is not None:
            return self.distances(truth, candidate)
        finite = np.isfinite(candidate).all(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            divergence: Floats = np.where(finite, kl_divergence(truth, candidate), np.nan)
        return divergence

    def distances(self, truth: Logits, candidate: Logits) -> Floats:
        """max |candidate - truth| / scale of each row, float64 [N]; NaN where it is not finite."""
        finite = np.isfinite(candidate).all(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.abs(candidate.astype(np.float64) - truth).max(axis=1) / self.scale
        distances: Floats = np.where(finite, distance, np.nan)
        return distances

    @property
    def unit(self) -> str:
        return "nats" if self.budget.max_logit_error is None else _DISTANCE

    @property
    def limit(self) -> float:
        if self.budget.max_logit_error is not None:
            return self.budget.max_logit_error
        assert self.budget.max_check_kl is not None  # Budget sees to it
        return self.budget.max_check_kl


def run_classifier_gate(
    backend: ClassifierBackend,
    reference: ClassifierReference,
    *,
    texts: GateTexts,
    budget: Budget,
    tokenizer_check: Callable[[], Sequence[Check]] | None = None,
    locate: Callable[[TokenIds], str | None] | None = None,
    progress: Progress | None = None,
) -> GateResult:
    """Judge a classifier; arguments and result are those of `exporter.gate.run.run_gate`."""
    exam = _Exam(backend=backend, reference=reference, texts=texts, budget=budget)
    columns = _check_columns(exam)
    steps = _steps(exam, tokenizer_check) if columns.passed else []
    checks: list[Check] = []
    for index, (name, ask) in enumerate(steps):
        if progress:
            progress(name, index, len(steps))
        checks.extend(run_check(name, ask))
    if columns.passed:
        checks.insert(0, _check_finite(exam))
    where = located(locate, exam.failing_tokens)
    return GateResult(
        checks=(columns, *checks),
        reference=f"{reference.description}; {texts.text}",
        where=where,
        notes=tuple(f"Not judged on {reason}." for reason in texts.judged.left_out),
        quality=exam.quality,
    )


def _steps(exam: _Exam, tokenizer_check: Callable[[], Sequence[Check]] | None) -> list[Step]:
    steps: list[Step] = [(f"text-{len(row)}", partial(_check_alone, exam, row)) for row in exam.texts.alone]
    steps.append((f"batch-{len(exam.texts.rows)}", partial(_check_batch, exam)))
    steps.append(("labels", partial(_check_labels, exam)))
    if tokenizer_check is not None:
        steps.append(("tokenizer", lambda: list(tokenizer_check())))
    return steps


def _check_columns(exam: _Exam) -> Check:
    ours, theirs = exam.backend.labels, exam.reference.labels
    detail = f"{ours} labels." if ours == theirs else f"{ours} labels; the source has {theirs}."
    return Check(name="columns", passed=ours == theirs, value=ours, limit=theirs, unit="labels", detail=detail)


def _check_finite(exam: _Exam) -> Check:
    detail = "Every logit that was compared is finite."
    if exam.source_nonfinite:
        detail = "The source itself gives logits that are not finite."
    elif exam.first_nonfinite is not None:
        detail = f"NaN or infinity among the logits, first in {exam.first_nonfinite}."
    passed = exam.nonfinite == 0 and not exam.source_nonfinite
    return Check(name="finite", passed=passed, value=exam.nonfinite, limit=0, unit="logits", detail=detail)


def _check_alone(exam: _Exam, row: TokenIds) -> Check:
    """One text in one call."""
    errors = exam.errors(exam.truth(row), exam.candidate([row], f"a text of {len(row)} tokens"))
    passed = bool(errors.max() <= exam.limit)
    if not passed and exam.failing_tokens is None:
        exam.failing_tokens = row
    detail = f"{len(row)} token{'' if len(row) == 1 else 's'} alone, {errors.max():.3g} {exam.unit}."
    if not passed:
        detail += _cause(row)
    return _check(exam, f"text-{len(row)}", errors, passed=passed, detail=detail)


def _check_batch(exam: _Exam) -> Check:
    """Several texts in one call: neither padding nor another row may change a row."""
    rows = exam.texts.rows
    if not exam.backend.takes_unequal:
        rows = tuple(row[: min(map(len, rows))] for row in rows)
    alone = np.concatenate([exam.candidate([row], f"row {index} alone") for index, row in enumerate(rows)])
    truth = np.concatenate([exam.truth(row) for row in rows])
    together = exam.candidate(rows, f"a batch of {len(rows)}")
    # Reduced precision is far from the source by design, which would hide a fault; from itself it differs by rounding.
    strict = exam.budget.max_logit_error is not None
    limit = exam.limit if strict else _SELF_ERROR
    errors = exam.distances(truth if strict else alone, together)
    wrong = np.flatnonzero(~(errors <= limit))
    lengths = ", ".join(str(len(row)) for row in rows)
    detail = f"Rows of {lengths} tokens in one call."
    if not exam.backend.takes_unequal:
        detail += " The model takes no mask: rows of one length only."
    if len(wrong):
        first = int(wrong[0])
        detail = f"Row {first} of a batch of {lengths} tokens is off by {errors[first]:.3g} {_DISTANCE}. "
        own = exam.errors(truth[first : first + 1], alone[first : first + 1])
        right = bool(own[0] <= exam.limit)
        detail += (
            _batch_cause(exam, first, truth if strict else alone, together, limit)
            if right
            else "Alone the same row is wrong too."
        )
    name, passed = f"batch-{len(rows)}", not len(wrong)
    return Check(name=name, passed=passed, value=float(errors.max()), limit=limit, unit=_DISTANCE, detail=detail)


def _check_labels(exam: _Exam) -> list[Check]:
    """Held-out texts, one at a time: the same labels, and probabilities within the budget."""
    windows = exam.texts.windows
    truth = np.concatenate([exam.truth(row) for row in windows])
    logits = np.concatenate([exam.candidate([row], f"held-out text {index}") for index, row in enumerate(windows)])
    finite = np.isfinite(logits).all(axis=1)
    agreed = finite & (truth.argmax(axis=1) == logits.argmax(axis=1))
    on = f"on {len(windows)} held-out texts of {min(map(len, windows))} to {max(map(len, windows))} tokens"
    if exam.budget.max_logit_error is not None:
        errors = exam.errors(truth, logits)
        best = np.sort(truth.astype(np.float64), axis=1)
        near_tie = (best[:, -1] - best[:, -2]) <= 2 * exam.limit * exam.scale
        different = np.flatnonzero(~(agreed | (finite & near_tie)))
        wrong = np.flatnonzero(~(errors <= exam.limit))
        detail = f"Same labels {on}, {errors.max():.3g} {exam.unit}."
        if len(different) or len(wrong):
            first = int((different if len(different) else wrong)[0])
            detail = f"{len(different)} other labels {on}, {len(wrong)} beyond the limit, first in text {first}."
        return [_check(exam, "labels", errors, passed=not len(different) and not len(wrong), detail=detail)]
    with np.errstate(invalid="ignore", over="ignore"):
        kl = np.where(finite, kl_divergence(truth, logits), np.nan)
    domains = _by_domain(exam, kl, agreed)
    exam.quality = {"domains": [domain.to_dict() for domain in domains]}
    limit = exam.budget.max_mean_kl
    # Comparisons with NaN are False: no figure that could not be computed passes.
    worst = max(domains, key=lambda one: (not _within(one.interval, limit), badness(one.mean_kl)))
    rank = f", the worst of {len(domains)} domains" if len(domains) > 1 else ""
    share = float(agreed.mean())
    return [
        Check(
            name="mean-kl",
            passed=_within(worst.interval, limit),
            value=worst.mean_kl,
            limit=limit,
            unit="nats",
            detail=f"mean-kl over the labels is {worst.mean_kl:.4g} ({worst.interval.low:.4g} to "
            f"{worst.interval.high:.4g}) on {worst.texts} texts of {worst.name}{rank}.",
        ),
        Check(
            name="top-1",
            passed=bool(share_interval(int(agreed.sum()), len(agreed)).high >= (exam.budget.min_top1 or 0.0)),
            value=share,
            limit=exam.budget.min_top1,
            unit="share",
            detail=f"The same label for {share:.4g} {on}.",
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class _LabelFigures:
    """What was measured on the texts of one domain; divergence in nats."""

    name: str
    texts: int
    mean_kl: float
    top1: float
    interval: Interval

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "texts": self.texts,
            "mean_kl": self.mean_kl,
            "top1": self.top1,
            "intervals": {"mean_kl": list(self.interval)},
        }


def _by_domain(exam: _Exam, kl: Floats, agreed: npt.NDArray[np.bool_]) -> list[_LabelFigures]:
    figures, start = [], 0
    for domain in exam.texts.judged.domains:
        part = slice(start, start + len(domain.windows))
        start = part.stop
        interval = mean_interval(kl[part], block=1)
        figures.append(
            _LabelFigures(
                name=domain.name,
                texts=len(domain.windows),
                mean_kl=float(kl[part].mean()),
                top1=float(agreed[part].mean()),
                interval=Interval(max(0.0, interval.low) if np.isfinite(interval.low) else interval.low, interval.high),
            )
        )
    return figures


def _within(interval: Interval, limit: float | None) -> bool:
    return bool(interval.low <= (np.inf if limit is None else limit))


def _cause(row: TokenIds) -> str:
    if len(row) == 1:
        return " One token alone is already wrong: weights, layers, their order or the labels' are at fault."
    return " What a token takes from the others (positions, attention) may be at fault."


def _batch_cause(exam: _Exam, row: int, truth: Logits, together: Logits, limit: float) -> str:
    for other in range(len(truth)):
        held = exam.distances(truth[other : other + 1], together[row : row + 1])
        if other != row and bool(held[0] <= limit):
            return f"It holds what row {other} should: the rows are mixed up."
    return "Alone the same row is right: how rows or padding are told apart is at fault."


def _check(exam: _Exam, name: str, errors: Floats, *, passed: bool, detail: str) -> Check:
    return Check(name=name, passed=passed, value=float(errors.max()), limit=exam.limit, unit=exam.unit, detail=detail)
