"""Comparing the candidate's logits with the reference's, row block by row block, within bounded memory.

Every number that comes out of a candidate passes through `Exam.compare`, which also counts what is not finite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.prompts import GatePrompts
from jisu.exporter.gate.quality import kl_divergence, row_blocks
from jisu.exporter.jobs.free_memory import give_back_freed
from jisu.exporter.precision.budget import Budget
from jisu.exporter.precision.logit_errors import logit_errors

if TYPE_CHECKING:
    from jisu.exporter.contract.backend import Backend, Logits
    from jisu.exporter.gate.reference import Reference

Floats = npt.NDArray[np.float64]
SEGMENT_BYTES = 64 << 20  # of reference logits computed at once
MEAN_ROWS = 32
# The logits of SmolLM2-135M have a standard deviation of 2.1 to 5. From its own prefill int4, int8 and w8a8-dynamic of
# it differ by at most 0.09 of that in any row, which is 0.03 nats; halved logits by 0.5, 0.78 nats.
SHARP = 2.5
TRUTH_BYTES = 96 << 20  # of reference logits kept


class Truth:
    """The reference's logits, each run kept for the checks that ask for the same sequence again."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._segment = max(1, SEGMENT_BYTES // (4 * reference.vocab_size))
        self._kept: dict[tuple[bytes, int], npt.NDArray[np.float32]] = {}
        self.nonfinite: str | None = None

    def rows(self, token_ids: TokenIds, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Logits after positions start..stop of one sequence, float32 [stop - start, V]; a view where it can be."""
        first, last = start // self._segment, (stop - 1) // self._segment
        if first == last:
            offset = first * self._segment
            return self._read(token_ids, first)[start - offset : stop - offset]
        middle = last * self._segment
        return np.concatenate([self.rows(token_ids, start, middle), self.rows(token_ids, middle, stop)])

    def forget(self) -> None:
        """Give the memory of all kept runs back."""
        self._kept.clear()

    def _read(self, token_ids: TokenIds, index: int) -> npt.NDArray[np.float32]:
        key = (token_ids.tobytes(), index)
        if key not in self._kept:
            positions = slice(index * self._segment, min((index + 1) * self._segment, len(token_ids)))
            size = 4 * self.reference.vocab_size * (positions.stop - positions.start)
            while self._kept and size + sum(kept.nbytes for kept in self._kept.values()) > TRUTH_BYTES:
                self._kept.pop(next(iter(self._kept)))
            rows = self.reference.logits(token_ids, positions)
            if self.nonfinite is None and not _all_finite(rows):
                self.nonfinite = f"a reference run over {len(token_ids)} tokens"
            self._kept[key] = rows
        return self._kept[key]


@dataclass
class Exam:
    """One candidate before its examiners, and what has been seen of it so far.

    ``against_itself``: the truth is the candidate's own prefill. Reduced precision is far from the source by design,
    which would hide a fault of cache or batch; from its own logits without a past it may differ by rounding only.
    """

    backend: Backend
    truth: Truth
    prompts: GatePrompts
    budget: Budget
    against_itself: bool = False
    nonfinite: int = 0
    first_nonfinite: str | None = None
    # Errors of what ran before, by which later checks tell causes apart: prefills of the long sequence by length,
    # float64 [length], and of each row run alone.
    prefills: dict[int, Floats] = field(default_factory=dict)
    alone: dict[int, Floats] = field(default_factory=dict)
    # The tokens of the first failure, for whoever looks for the layer.
    failing_tokens: TokenIds | None = None

    def compare(self, logits: Logits, token_ids: TokenIds, start: int, *, label: str) -> Floats:
        """Errors of the candidate's logits after positions ``start``.. of a sequence.

        Args:
            logits: float32 [N, V].
            token_ids: the whole sequence, int64 [T].
            label: how to name these rows when one is not finite.

        Returns:
            float64 [N], in `unit`; NaN where a row is not finite.
        """
        vocab_size = self.truth.reference.vocab_size
        if logits.ndim != 2 or logits.shape[1] != vocab_size:
            raise ValueError(f"logits of shape {logits.shape} where [N, {vocab_size}] is expected")
        errors: Floats = np.empty(len(logits))
        for rows in row_blocks(*logits.shape):
            truth = self.truth.rows(token_ids, start + rows.start, start + rows.stop)
            errors[rows] = self.distances(truth, logits[rows], start=start + rows.start, label=label)
        return errors

    def distances(
        self, truth: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32], *, start: int, label: str
    ) -> Floats:
        """The same for rows whose truth is at hand, float32 [N, V] each; ``start`` is the first row's position."""
        if truth.shape != candidate.shape:
            raise ValueError(f"logits of shape {candidate.shape} where {truth.shape} is expected")
        self._count_nonfinite(candidate, start, label)
        return self._errors(truth, candidate)

    def _errors(self, truth: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32]) -> Floats:
        # A row that is not finite has no distance; nan <= limit is False, which is what rejects it.
        if self.budget.max_logit_error is not None:
            return logit_errors(truth, candidate)
        with np.errstate(invalid="ignore", over="ignore"):
            errors = kl_divergence(truth, candidate)
            if self.against_itself:
                errors = np.maximum(errors, _divergence_of_sharp_logits(truth, candidate))
            return np.where(np.isfinite(candidate).all(axis=1), errors, np.nan)

    def _count_nonfinite(self, logits: npt.NDArray[np.float32], start: int, label: str) -> None:
        if _all_finite(logits):
            return
        bad = ~np.isfinite(logits)
        self.nonfinite += int(bad.sum())
        if self.first_nonfinite is None:
            self.first_nonfinite = f"{label}, position {start + int(bad.any(axis=1).argmax())}"

    def rest(self) -> None:
        """Give back the memory of kept runs and of the candidate's longest call, and what else has been freed."""
        self.truth.forget()
        rest = getattr(self.backend, "rest", None)
        if rest is not None:
            rest()
        give_back_freed()

    @property
    def limit(self) -> float:
        if self.budget.max_logit_error is not None:
            return self.budget.max_logit_error
        limit = self.budget.max_self_kl if self.against_itself else self.budget.max_check_kl
        assert limit is not None  # Budget sees to it
        return limit

    @property
    def unit(self) -> str:
        if self.budget.max_logit_error is not None:
            return "sd of the logits"
        return "nats from its own prefill" if self.against_itself else "nats, mean KL"

    def value(self, errors: Floats) -> float:
        """What a check is judged by: the largest error, or the mean divergence from the source; NaN if any is.

        The mean is that of the worst `MEAN_ROWS` consecutive rows, so that a fault of the last positions only is not
        thinned out by the many before them.
        """
        if self.budget.max_logit_error is not None or self.against_itself:
            return float(errors.max())
        return float(np.max([errors[start : start + MEAN_ROWS].mean() for start in range(0, len(errors), MEAN_ROWS)]))

    def passes(self, errors: Floats) -> bool:
        return bool(self.value(errors) <= self.limit)

    def first_wrong(self, errors: Floats) -> int | None:
        """Index of the first error beyond the limit."""
        wrong = ~(errors <= self.limit)
        return int(wrong.argmax()) if wrong.any() else None


class OwnPrefill:
    """A candidate as its own `Reference`: every sequence in one call from an empty state, all logits of it at once."""

    description = "its own prefill"

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.vocab_size = backend.vocab_size

    def logits(self, token_ids: TokenIds, positions: slice | None = None) -> npt.NDArray[np.float32]:
        state = self._backend.new_state(1, len(token_ids))
        logits = self._backend.forward(token_ids[None], state, logits="all")[0]
        rows: npt.NDArray[np.float32] = logits[positions or slice(None)].copy()
        return rows


def _divergence_of_sharp_logits(truth: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32]) -> Floats:
    """Nats that the same difference would be between logits as a trained model's, float64 [N].

    Half the variance of a difference is the divergence that it makes, to second order. Where logits are flat, as those
    of random weights, any fault is only a few hundredths of a nat; what counts is its share of their spread.
    """
    divergence: Floats = np.empty(len(truth))
    for rows in row_blocks(*truth.shape):
        difference = candidate[rows].astype(np.float64) - truth[rows]
        spread = np.maximum(truth[rows].std(axis=1, dtype=np.float64), np.finfo(np.float32).tiny)
        divergence[rows] = 0.5 * np.square(SHARP * difference.std(axis=1) / spread)
    return divergence


def _all_finite(array: npt.NDArray[np.float32]) -> bool:
    # min and max need no boolean array of the same shape and carry NaN and infinities alike.
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))
