"""How close a model's predictions are to its source's on held-out text: divergence, agreement and perplexity.

Streaming: two blocks of logits at a time, never a dump of them; one number per token is kept for the percentile. All
sums are float64, and a NaN anywhere reaches every figure it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.intervals import Interval, mean_interval, share_interval

if TYPE_CHECKING:
    from jisu.exporter.contract.backend import Backend
    from jisu.exporter.gate.reference import Reference

Floats = npt.NDArray[np.float64]
BLOCK_BYTES = 4 << 20  # of float32 logits; float64 intermediates are a few times that
# The source is confident of a token when its probability is so much above the next one's.
CONFIDENT = 0.5


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures over ``tokens`` scored positions; KL divergence in nats, reference to candidate.

    Attributes:
        mean_kl, p99_kl: of the tokens' divergences.
        top1: share of positions whose most likely token agrees, 0..1.
        perplexity, reference_perplexity: of the text, with the candidate and with the source.
        tokens: scored positions.
        confident: how many of them the source is confident of, see `CONFIDENT`.
        changed: those of the confident ones whose most likely token is another.
        intervals: of figures by name; a figure without one is taken as it is.
    """

    mean_kl: float
    p99_kl: float
    top1: float
    perplexity: float
    reference_perplexity: float
    tokens: int
    confident: int = 0
    changed: int = 0
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def perplexity_ratio(self) -> float:
        return self.perplexity / self.reference_perplexity

    @property
    def confident_changes(self) -> float:
        """The share of confident choices that are another token, 0..1."""
        return self.changed / self.confident if self.confident else 0.0

    def interval(self, figure: str) -> Interval:
        """Between which values the figure lies, with a confidence of 95 %."""
        value: float = getattr(self, figure)
        return self.intervals.get(figure, Interval(value, value))

    def to_dict(self) -> dict[str, Any]:
        return {
            "mean_kl": self.mean_kl,
            "p99_kl": self.p99_kl,
            "top1": self.top1,
            "perplexity": self.perplexity,
            "reference_perplexity": self.reference_perplexity,
            "perplexity_ratio": self.perplexity_ratio,
            "confident_changes": self.confident_changes,
            "confident": self.confident,
            "tokens": self.tokens,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
        }


class QualityMeter:
    """Adds up the figures of one candidate."""

    def __init__(self) -> None:
        self._kl: list[Floats] = []
        self._agreed: list[Floats] = []
        self._surprise: list[Floats] = []
        self._reference_surprise: list[Floats] = []
        self._confident = 0
        self._changed = 0
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
            agreed = _agreement(reference[rows], candidate[rows])
            self._agreed.append(agreed.astype(np.float64))
            confident = _margin(reference[rows]) >= CONFIDENT
            self._confident += int(confident.sum())
            self._changed += int((confident & ~agreed).sum())
            index = targets[rows, None]
            self._surprise.append(-np.take_along_axis(guess, index, axis=1)[:, 0])
            self._reference_surprise.append(-np.take_along_axis(truth, index, axis=1)[:, 0])
        self._tokens += len(targets)

    def result(self) -> Quality:
        """The figures; raises ValueError when nothing was scored."""
        if not self._tokens:
            raise ValueError("nothing was scored")
        kl, agreed = np.concatenate(self._kl), np.concatenate(self._agreed)
        surprise, expected = np.concatenate(self._surprise), np.concatenate(self._reference_surprise)
        kl_interval, top1, ratio = mean_interval(kl), mean_interval(agreed), mean_interval(surprise - expected)
        return Quality(
            mean_kl=float(kl.mean()),
            # The smallest divergence that 99 % of the tokens do not exceed: a measured value, not interpolated.
            p99_kl=float(np.quantile(kl, 0.99, method="inverted_cdf")),
            top1=float(agreed.mean()),
            perplexity=float(np.exp(surprise.mean())),
            reference_perplexity=float(np.exp(expected.mean())),
            tokens=self._tokens,
            confident=self._confident,
            changed=self._changed,
            intervals={
                "mean_kl": Interval(_positive(kl_interval.low), kl_interval.high),
                "top1": Interval(_positive(top1.low), top1.high if top1.high < 1 else 1.0),
                "perplexity_ratio": Interval(exp(ratio.low), exp(ratio.high)),
                "confident_changes": share_interval(self._changed, self._confident),
            },
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


def badness(value: float) -> float:
    """A figure to find the worst by: one that is no number is worse than every number."""
    return float("inf") if np.isnan(value) else value


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


def _margin(logits: npt.NDArray[np.float32]) -> Floats:
    """Probability of the most likely token less that of the next one; [N, V] -> [N], 1 where there is one token."""
    if logits.shape[1] < 2:
        return np.ones(len(logits))
    number = np.arange(len(logits))
    best = logits.argmax(axis=1)
    first = logits[number, best].astype(np.float64)
    others = logits.copy()
    others[number, best] = -np.inf
    second = others.max(axis=1).astype(np.float64)
    np.subtract(logits, first[:, None].astype(np.float32), out=others)
    # float32 is enough for a share that is compared with one half.
    total = np.exp(others, out=others).sum(axis=1, dtype=np.float64)
    margin: Floats = (1 - np.exp(second - first)) / total
    return margin


def _positive(value: float) -> float:
    """0 for a negative number; NaN stays."""
    return 0.0 if value < 0 else value


def _agreement(reference: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    # argmax takes NaN for the largest number, so a row with one must not count as agreeing by accident.
    finite = np.isfinite(candidate).all(axis=1)
    agreed: npt.NDArray[np.bool_] = finite & (reference.argmax(axis=1) == candidate.argmax(axis=1))
    return agreed
