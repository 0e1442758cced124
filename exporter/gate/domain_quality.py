"""Quality by domain, judged on the worst: more text is read where a verdict is not clear, within bounds.

A limit is exceeded when the figure's interval lies beyond it. A domain of which the source itself knows nothing says
nothing of a candidate: it is measured and does not judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.gate.domain_tokens import DomainTokens, Judged, TokenIds
from jisu.exporter.gate.intervals import Interval
from jisu.exporter.gate.quality import Quality, QualityMeter, badness
from jisu.exporter.gate.reference import prepare_truth
from jisu.exporter.gate.result import Check
from jisu.exporter.precision.budget import Budget

if TYPE_CHECKING:
    from jisu.exporter.contract.backend import Backend
    from jisu.exporter.gate.reference import Reference

# Tokens of each domain that are read at first; then twice as many where the verdict is not clear, up to the most.
FIRST_TOKENS = 256
MOST_TOKENS = 1024
# The source's perplexity from which on it knows nothing of a text.
UNKNOWN_PERPLEXITY = 2000.0


@dataclass(frozen=True, kw_only=True)
class _Figure:
    name: str  # of the check
    field: str  # of `Quality`
    limit: str  # of `Budget`
    unit: str
    at_least: bool = False


_FIGURES = (
    _Figure(name="mean-kl", field="mean_kl", limit="max_mean_kl", unit="nats"),
    _Figure(name="p99-kl", field="p99_kl", limit="max_p99_kl", unit="nats"),
    _Figure(name="top-1", field="top1", limit="min_top1", unit="share", at_least=True),
    _Figure(name="perplexity-ratio", field="perplexity_ratio", limit="max_perplexity_ratio", unit="ratio"),
    _Figure(name="confident-changes", field="confident_changes", limit="max_confident_changes", unit="share"),
)


@dataclass(frozen=True, kw_only=True)
class DomainFigures:
    """What was measured on one domain, and whether it judges."""

    name: str
    quality: Quality
    judges: bool = True

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "judges": self.judges, **self.quality.to_dict()}


@dataclass(frozen=True, kw_only=True)
class DomainQuality:
    """Figures of every domain; ``notes`` name those that do not judge and say why."""

    domains: tuple[DomainFigures, ...]
    notes: tuple[str, ...] = ()

    @property
    def judging(self) -> tuple[DomainFigures, ...]:
        return tuple(domain for domain in self.domains if domain.judges)

    @property
    def worst(self) -> DomainFigures:
        """The domain with the largest mean divergence; one whose figure is no number before all others."""
        return max(self.judging, key=lambda domain: badness(domain.quality.mean_kl))

    @property
    def average_kl(self) -> float:
        """Mean of the domains' mean divergences, each domain counted once."""
        return float(np.mean([domain.quality.mean_kl for domain in self.judging]))

    @property
    def tokens(self) -> int:
        return sum(domain.quality.tokens for domain in self.judging)

    def to_dict(self) -> dict[str, Any]:
        return {
            "worst": self.worst.name,
            "worst_kl": self.worst.quality.mean_kl,
            "average_kl": self.average_kl,
            "tokens": self.tokens,
            "domains": [domain.to_dict() for domain in self.domains],
        }


def measure_domains(
    backend: Backend,
    reference: Reference,
    judged: Judged,
    budget: Budget,
    *,
    first: int = FIRST_TOKENS,
    most: int = MOST_TOKENS,
    progress: Callable[[int, int], None] | None = None,
) -> DomainQuality:
    """Score domains until it is clear of each whether it keeps the budget.

    Args:
        first: tokens of each domain that are scored at first.
        most: tokens of a domain that are scored at most, but for the end of a window.
        progress: called with the windows done and the number of those that are known to be needed.
    """
    runs = [_Run(domain) for domain in judged.domains]
    target, done = first, 0
    pending = list(runs)
    while pending:
        rounds = [(run, window) for run in pending for window in run.next_windows(target)]
        prepare_truth(reference, [window for _, window in rounds])
        for index, (run, window) in enumerate(rounds):
            run.score(backend, reference, window)
            if progress:
                progress(done + index + 1, done + len(rounds))
        done += len(rounds)
        if target >= most:
            break
        pending = [run for run in pending if run.left and not _clear(run.meter.result(), budget)]
        target = min(2 * target, most)
    measured = [(run.domain.name, run.meter.result()) for run in runs]
    return _with_verdict(measured, judged.left_out)


def first_windows(judged: Judged, *, first: int = FIRST_TOKENS) -> list[TokenIds]:
    """What `measure_domains` reads at first, whatever it finds."""
    return [window for domain in judged.domains for window in _Run(domain).next_windows(first)]


def domain_figures(measured: Sequence[tuple[str, Quality]]) -> DomainQuality:
    """The same of figures that were measured elsewhere, by the name of the domain."""
    return _with_verdict(measured, ())


def domain_checks(quality: DomainQuality, budget: Budget) -> list[Check]:
    """Judge the figures that the budget limits, each on its worst domain, and state the others."""
    if not budget.judges_quality:
        return []
    checks = [_check(figure, quality, getattr(budget, figure.limit)) for figure in _FIGURES]
    value, limit = quality.average_kl, budget.max_average_kl
    if limit is not None or len(quality.judging) > 1:
        bound = "the budget sets no limit" if limit is None else f"the budget is at most {limit:g}"
        checks.append(
            Check(
                name="average-kl",
                passed=bool(np.isfinite(value)) if limit is None else bool(value <= limit),
                value=value,
                limit=limit,
                unit="nats",
                detail=f"average-kl is {value:.4g}, the mean over {len(quality.judging)} domains; {bound}.",
            )
        )
    return checks


class _Run:
    """One domain and what has been read of it."""

    def __init__(self, domain: DomainTokens) -> None:
        self.domain = domain
        self.meter = QualityMeter()
        self._next = 0

    @property
    def left(self) -> bool:
        return self._next < len(self.domain.windows)

    def next_windows(self, tokens: int) -> list[TokenIds]:
        """As many windows as it takes to have scored that many tokens, or all that are left."""
        chosen: list[TokenIds] = []
        scored = self.meter.tokens
        # A window of the usual length has one token less to score than it is long, which is no reason for another one.
        while self.left and scored + len(chosen) < tokens:
            window = self.domain.windows[self._next]
            self._next += 1
            chosen.append(window)
            scored += len(window) - 1
        return chosen

    def score(self, backend: Backend, reference: Reference, window: Any) -> None:
        state = backend.new_state(1, len(window))
        candidate = backend.forward(window[None], state, logits="all")[0]
        self.meter.add(reference.logits(window)[:-1], candidate[:-1], window[1:])


def _with_verdict(measured: Sequence[tuple[str, Quality]], left_out: Sequence[str]) -> DomainQuality:
    unknown = {
        name for name, quality in measured if len(measured) > 1 and quality.reference_perplexity > UNKNOWN_PERPLEXITY
    }
    notes = [f"Not judged on {reason}." for reason in left_out]
    if len(unknown) == len(measured):
        # A model that knows no text at all, such as an untrained one, is judged on what there is.
        unknown = set()
        if len(measured) > 1:
            notes.append(
                "The source knows nothing of any built-in text: the quality figures are of text that is noise to it."
            )
    domains = tuple(DomainFigures(name=name, quality=quality, judges=name not in unknown) for name, quality in measured)
    notes += [
        f"Not judged on {domain.name}: the source itself knows nothing of it (perplexity "
        f"{domain.quality.reference_perplexity:,.0f}, the limit is {UNKNOWN_PERPLEXITY:,.0f})."
        for domain in domains
        if not domain.judges
    ]
    return DomainQuality(domains=domains, notes=tuple(notes))


def _clear(quality: Quality, budget: Budget) -> bool:
    """Whether more text could change a verdict.

    The divergence has to lie on one side of its limit with its whole interval. The other figures, whose intervals are
    wide for as long as few tokens are read, are clear as long as they are within their limits.
    """
    for figure in _FIGURES:
        limit = getattr(budget, figure.limit)
        if limit is None:
            continue
        interval, value = quality.interval(figure.field), getattr(quality, figure.field)
        beyond = value < limit if figure.at_least else value > limit
        if interval.low < limit < interval.high and (beyond or figure.field == "mean_kl"):
            return False
    return True


def _passes(figure: _Figure, interval: Interval, limit: float | None) -> bool:
    # Comparisons with NaN are False: no figure that could not be computed passes.
    if limit is None:
        return bool(np.isfinite(interval.low) and np.isfinite(interval.high))
    return bool(interval.high >= limit) if figure.at_least else bool(interval.low <= limit)


def _check(figure: _Figure, domains: DomainQuality, limit: float | None) -> Check:
    def rank(domain: DomainFigures) -> tuple[bool, float]:
        value = getattr(domain.quality, figure.field)
        failed = not _passes(figure, domain.quality.interval(figure.field), limit)
        return failed, badness(-value if figure.at_least else value)

    worst = max(domains.judging, key=rank)
    quality = worst.quality
    value, interval = getattr(quality, figure.field), quality.interval(figure.field)
    bound = "the budget sets no limit"
    if limit is not None:
        bound = f"the budget is {'at least' if figure.at_least else 'at most'} {limit:g}"
    between = f" ({interval.low:.4g} to {interval.high:.4g})" if interval.low != interval.high else ""
    among = f", the worst of {len(domains.judging)} domains" if len(domains.judging) > 1 else ""
    detail = f"{figure.name} is {value:.4g}{between} on {quality.tokens} tokens of {worst.name}{among}; {bound}."
    return Check(
        name=figure.name,
        passed=_passes(figure, interval, limit),
        value=value,
        limit=limit,
        unit=figure.unit,
        detail=detail,
    )
