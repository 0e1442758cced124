"""Held-out texts, or pairs of them, through a candidate and its source: the same answers, or close ones in each domain.

What an answer is differs by the kind of model: a text's label or labels, each token's tag, the words at masked places,
or the span of an answer. All are judged by divergence in nats and by the share of answers that agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.exam import Floats
from jisu.exporter.gate.intervals import Interval, mean_interval, share_interval
from jisu.exporter.gate.one_pass_exam import Numbers, OnePassExam
from jisu.exporter.gate.quality import badness
from jisu.exporter.gate.result import Check


@dataclass(frozen=True, kw_only=True)
class Question:
    """One text, and at which of its tokens the answer is looked at; None for all that the model says of it."""

    row: TokenIds
    places: npt.NDArray[np.int64] | None = None

    def of(self, numbers: Numbers) -> Numbers:
        return numbers if self.places is None else numbers[self.places]


Domains = Sequence[tuple[str, Sequence[Question]]]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What was measured on one text: divergence in nats, the error in sd, and which of its answers agree."""

    kl: float
    error: float
    agreed: npt.NDArray[np.bool_]
    tied: npt.NDArray[np.bool_]


def held_out_windows(exam: OnePassExam) -> Domains:
    """The gate's held-out texts as they are."""
    return [(one.name, [Question(row=row) for row in one.windows]) for one in exam.texts.judged.domains]


def check_held_out(exam: OnePassExam, domains: Domains, *, name: str, noun: str, prefix: str = "") -> list[Check]:
    """Ask all questions, one at a time.

    Args:
        name: of the check where every number is compared.
        noun: what an answer is called.
        prefix: before the names of the checks of reduced precision.
    """
    seen = [[_ask(exam, question, label) for question in questions] for label, questions in domains]
    lengths = [len(question.row) for _, questions in domains for question in questions]
    on = f"on {len(lengths)} held-out {'pairs' if prefix else 'texts'} of {min(lengths)} to {max(lengths)} tokens"
    if exam.strict:
        return [_strict(exam, [one for domain in seen for one in domain], name=name, noun=noun, on=on)]
    figures = [_figures(label, one) for (label, _), one in zip(domains, seen, strict=True)]
    exam.quality[f"{prefix}domains"] = [one.to_dict() for one in figures]
    limit = exam.budget.max_mean_kl
    # Comparisons with NaN are False: no figure that could not be computed passes.
    worst = max(figures, key=lambda one: (not _within(one.interval, limit), badness(one.mean_kl)))
    rank = f", the worst of {len(figures)} domains" if len(figures) > 1 else ""
    checks = [
        Check(
            name=f"{prefix}mean-kl",
            passed=_within(worst.interval, limit),
            value=worst.mean_kl,
            limit=limit,
            unit="nats",
            detail=f"mean-kl over the {exam.unit_of_columns} is {worst.mean_kl:.4g} ({worst.interval.low:.4g} to "
            f"{worst.interval.high:.4g}) on {worst.texts} texts of {worst.name}{rank}.",
        )
    ]
    if exam.decides:
        agreed = np.concatenate([one.agreed for domain in seen for one in domain])
        share = float(agreed.mean())
        checks.append(
            Check(
                name=f"{prefix}top-1",
                passed=bool(share_interval(int(agreed.sum()), len(agreed)).high >= (exam.budget.min_top1 or 0.0)),
                value=share,
                limit=exam.budget.min_top1,
                unit="share",
                detail=f"The same {noun} for {share:.4g} {on}.",
            )
        )
    return checks


def _ask(exam: OnePassExam, question: Question, label: str) -> _Seen:
    truth = question.of(exam.truth(question.row))
    answer = question.of(exam.candidate([question.row], f"a held-out text of {label}")[0])
    finite = bool(np.isfinite(answer).all())
    agreed, tied = exam.agreement(truth, answer)
    return _Seen(
        kl=float(exam.divergence(truth, answer).mean()) if finite else float("nan"),
        error=exam.distance(truth, answer),
        agreed=agreed & finite,
        tied=tied & finite,
    )


def _strict(exam: OnePassExam, seen: Sequence[_Seen], *, name: str, noun: str, on: str) -> Check:
    errors = np.array([one.error for one in seen])
    different = [index for index, one in enumerate(seen) if not bool((one.agreed | one.tied).all())]
    wrong = np.flatnonzero(~(errors <= exam.limit))
    detail = f"Same {noun}s {on}, {errors.max():.3g} {exam.unit}."
    if different or len(wrong):
        first = int(different[0] if different else wrong[0])
        detail = f"{len(different)} other {noun}s {on}, {len(wrong)} beyond the limit, first in text {first}."
    passed = not different and not len(wrong)
    return Check(name=name, passed=passed, value=float(errors.max()), limit=exam.limit, unit=exam.unit, detail=detail)


@dataclass(frozen=True, kw_only=True)
class _Figures:
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


def _figures(name: str, seen: Sequence[_Seen]) -> _Figures:
    kl: Floats = np.array([one.kl for one in seen])
    interval = mean_interval(kl, block=1)
    return _Figures(
        name=name,
        texts=len(seen),
        mean_kl=float(kl.mean()),
        top1=float(np.concatenate([one.agreed for one in seen]).mean()),
        interval=Interval(max(0.0, interval.low) if np.isfinite(interval.low) else interval.low, interval.high),
    )


def _within(interval: Interval, limit: float | None) -> bool:
    return bool(interval.low <= (np.inf if limit is None else limit))
