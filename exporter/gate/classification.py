"""What the gate asks of a classifier's answers: the same labels, and probabilities within the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.exam import Floats
from jisu.exporter.gate.intervals import Interval, mean_interval, share_interval
from jisu.exporter.gate.one_pass_exam import OnePassExam
from jisu.exporter.gate.quality import badness, kl_divergence
from jisu.exporter.gate.result import Check


def check_labels(exam: OnePassExam) -> list[Check]:
    """Held-out texts, one at a time: the same labels, and probabilities within the budget."""
    windows = exam.texts.windows
    truth = np.concatenate([exam.truth(row) for row in windows])
    logits = np.concatenate([exam.candidate([row], f"held-out text {index}")[0] for index, row in enumerate(windows)])
    finite = np.isfinite(logits).all(axis=1)
    agreed = finite & (truth.argmax(axis=1) == logits.argmax(axis=1))
    on = f"on {len(windows)} held-out texts of {min(map(len, windows))} to {max(map(len, windows))} tokens"
    if exam.strict:
        errors = np.array([exam.distance(*pair) for pair in zip(truth[:, None], logits[:, None], strict=True)])
        best = np.sort(truth.astype(np.float64), axis=1)
        near_tie = (best[:, -1] - best[:, -2]) <= 2 * exam.limit * exam.scale
        different = np.flatnonzero(~(agreed | (finite & near_tie)))
        wrong = np.flatnonzero(~(errors <= exam.limit))
        detail = f"Same labels {on}, {errors.max():.3g} {exam.unit}."
        if len(different) or len(wrong):
            first = int((different if len(different) else wrong)[0])
            detail = f"{len(different)} other labels {on}, {len(wrong)} beyond the limit, first in text {first}."
        passed = not len(different) and not len(wrong)
        worst_error = float(errors.max())
        return [Check(name="labels", passed=passed, value=worst_error, limit=exam.limit, unit=exam.unit, detail=detail)]
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


def _by_domain(exam: OnePassExam, kl: Floats, agreed: npt.NDArray[np.bool_]) -> list[_LabelFigures]:
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
