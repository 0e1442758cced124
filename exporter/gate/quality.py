"""How close a model's predictions are to its source's on held-out text: divergence, agreement and perplexity.

Streaming: two blocks of logits at a time, never a dump of them; one number per token is kept for the percentile. All
sums are float64, and a NaN anywhere reaches every figure it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exporter.gate.result import Check
from exporter.precision.budget import Budget

if TYPE_CHECKING:
    from exporter.contract.backend import Backend
    from exporter.gate.reference import Reference

Floats = npt.NDArray[np.float64]
BLOCK_BYTES = 4 << 20  # of float32 logits; float64 intermediates are a few times that


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures over ``tokens`` scored positions; KL divergence in nats, reference to candidate."""

    mean_kl: float
    p99_kl: float
    top1: float
    perplexity: float
    reference_perplexity: float
    tokens: int

    @property
    def perplexity_ratio(self) -> float:
        return self.perplexity / self.reference_perplexity

    def to_dict(self) -> dict[str, float | int]:
        return {**asdict(self), "perplexity_ratio": self.perplexity_ratio}


class QualityMeter:
    """Adds up the figures of one candidate."""

    def __init__(self) -> None:
        self._kl: list[Floats] = []
        self._agreed = 0
        self._surprise = 0.0
        self._reference_surprise = 0.0
        self._tokens = 0

    @property
    def tokens(self) -> int:
        """Positions scored so far."""
        return self._tokens

    def add(
        self,
        reference: npt.NDArray[np.float32],
        candidate: npt.NDArray[np.float32],
        targets: npt.NDArray[np.int64],
    ) -> None:
        """Score rows of logits.

        Args:
            reference: float32 [N, V].
            candidate: float32 [N, V].
            targets: int64 [N], the token that follows in the text.

        Raises:
            ValueError: the shapes do not belong together.
        """
        if reference.shape != candidate.shape or targets.shape != reference.shape[:1]:
            raise ValueError(f"logits {reference.shape} and {candidate.shape} with targets {targets.shape}")
        for rows in row_blocks(*reference.shape):
            truth, guess = log_softmax(reference[rows]), log_softmax(candidate[rows])
            self._kl.append(kl_from_log_probabilities(truth, guess))
            self._agreed += int(np.sum(_agreement(reference[rows], candidate[rows])))
            index = targets[rows, None]
            self._surprise -= float(np.take_along_axis(guess, index, axis=1).sum())
            self._reference_surprise -= float(np.take_along_axis(truth, index, axis=1).sum())
        self._tokens += len(targets)

    def result(self) -> Quality:
        """The figures; raises ValueError when nothing was scored."""
        if not self._tokens:
            raise ValueError("nothing was scored")
        kl = np.concatenate(self._kl)
        return Quality(
            mean_kl=float(kl.mean()),
            # The smallest divergence that 99 % of the tokens do not exceed: a measured value, not interpolated.
            p99_kl=float(np.quantile(kl, 0.99, method="inverted_cdf")),
            top1=self._agreed / self._tokens,
            perplexity=float(np.exp(self._surprise / self._tokens)),
            reference_perplexity=float(np.exp(self._reference_surprise / self._tokens)),
            tokens=self._tokens,
        )


def log_softmax(logits: npt.NDArray[np.float32]) -> Floats:
    """x - max - log(sum(exp(x - max))) per row, in float64; [N, V] -> [N, V]."""
    shifted: Floats = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def kl_from_log_probabilities(reference: Floats, candidate: Floats) -> Floats:
    """Sum over the vocabulary of p (log p - log q), per row; float64 [N, V] each -> float64 [N]."""
    divergence: Floats = np.sum(np.exp(reference) * (reference - candidate), axis=1)
    return divergence


def kl_divergence(reference: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32]) -> Floats:
    """KL divergence of each row of logits in nats, reference to candidate; float32 [N, V] each -> float64 [N]."""
    out: Floats = np.empty(len(reference))
    for rows in row_blocks(*reference.shape):
        out[rows] = kl_from_log_probabilities(log_softmax(reference[rows]), log_softmax(candidate[rows]))
    return out


def row_blocks(rows: int, width: int) -> Iterable[slice]:
    """Slices of rows that hold at most `BLOCK_BYTES` of float32 each, one row at least."""
    step = max(1, BLOCK_BYTES // (4 * width))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def measure_quality(
    backend: Backend,
    reference: Reference,
    windows: Sequence[npt.NDArray[np.int64]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Quality:
    """Score windows of text, each from an empty state; every position but a window's last predicts the next token.

    Args:
        windows: token ids, int64 [T] each, T at least 2.
        progress: called with the windows done and their number.
    """
    meter = QualityMeter()
    for done, window in enumerate(windows):
        state = backend.new_state(1, len(window))
        candidate = backend.forward(window[None], state, logits="all")[0]
        meter.add(reference.logits(window)[:-1], candidate[:-1], window[1:])
        if progress:
            progress(done + 1, len(windows))
    expected = sum(len(window) - 1 for window in windows)
    assert meter.tokens == expected, f"{meter.tokens} tokens scored instead of {expected}"
    return meter.result()


def quality_checks(quality: Quality, budget: Budget) -> list[Check]:
    """Judge the figures that the budget limits and state the others; none when it limits none."""
    on = f"on {quality.tokens} tokens of held-out text"
    figures: list[tuple[str, float, float | None, str]] = [
        ("mean-kl", quality.mean_kl, budget.max_mean_kl, "nats"),
        ("p99-kl", quality.p99_kl, budget.max_p99_kl, "nats"),
        ("top-1", quality.top1, budget.min_top1, "share"),
        ("perplexity-ratio", quality.perplexity_ratio, budget.max_perplexity_ratio, "ratio"),
    ]
    checks: list[Check] = []
    if not budget.judges_quality:
        return checks
    for name, value, limit, unit in figures:
        if limit is None:
            detail = f"{name} is {value:.4g} {on}; the budget sets no limit."
            finite = bool(np.isfinite(value))
            checks.append(Check(name=name, passed=finite, value=value, limit=None, unit=unit, detail=detail))
            continue
        passed = value >= limit if name == "top-1" else value <= limit
        bound = "at least" if name == "top-1" else "at most"
        detail = f"{name} is {value:.4g} {on}; the budget is {bound} {limit:g}."
        # A comparison with NaN is False: no figure that could not be computed passes.
        checks.append(Check(name=name, passed=bool(passed), value=value, limit=limit, unit=unit, detail=detail))
    return checks


def _agreement(reference: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    # argmax takes NaN for the largest number, so a row with one must not count as agreeing by accident.
    finite = np.isfinite(candidate).all(axis=1)
    agreed: npt.NDArray[np.bool_] = finite & (reference.argmax(axis=1) == candidate.argmax(axis=1))
    return agreed
