"""Beam search: several sequences of each row are followed at once, and the best finished one is the answer.

The algorithm and its three options are those that transformers' ``generate`` gives for the same names (5.23), so that
both find the same sequences: in every step the likeliest continuations of all beams are ranked together; those that end
are kept with their score, the sum of log-probabilities / length ** length_penalty, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import Backend, State
from jisu.runtimes.generation.options import EarlyStopping, SamplingOptions
from jisu.runtimes.generation.row_rules import RowRules
from jisu.runtimes.generation.sampling import Scores, check_tokens, edit_scores, edits_scores, log_softmax, no_token
from jisu.runtimes.generation.stopping import FinishReason
from jisu.runtimes.generation.token_loop import Turn, prefill

_NEVER = -1e9  # the score of a place that nothing has taken


@dataclass(frozen=True, kw_only=True)
class BeamResult:
    """The best sequence of one row, without its prompt; ``score`` is what it was chosen by."""

    token_ids: tuple[int, ...]
    score: float
    finish_reason: FinishReason


def search_beams(
    backend: Backend,
    state: State,
    prompts: Sequence[Sequence[int]],
    *,
    options: SamplingOptions,
    limits: Sequence[int],
    eos: Iterable[int] = (),
    rules: Sequence[RowRules] = (),
    turns: Turn | None = None,
) -> list[BeamResult]:
    """Search each row's best continuation.

    Args:
        state: empty, or what an encoder wrote; with ``num_beams`` rows for each prompt, one after the other, of which
            each has room for the prompt and the limit.
        prompts: token ids of each row.
        options: with ``num_beams``.
        limits: new tokens that each row may have.
        eos: tokens that end a sequence, besides the options' own.
        rules: of each row, where the options have some.
        turns: entered for each call of the backend, where several threads share it.

    Raises:
        InputError: an empty prompt, logits that are not finite, or a processor that returns another shape.
    """
    beams = options.num_beams or 1
    check_tokens(options, backend.vocab_size)
    ends = np.array(sorted({*eos, *options.stop_ids}), np.int64)
    rows = [
        _Row(
            beams=beams,
            limit=limit,
            ends=ends,
            model_ends=frozenset(eos),
            length_penalty=1.0 if options.length_penalty is None else options.length_penalty,
            early_stopping=options.early_stopping or False,
        )
        for limit in limits
    ]
    logits = prefill(backend, state, [prompt for prompt in prompts for _ in range(beams)], turns=turns)
    editor = _Editor(options, prompts, rules, vocab_size=backend.vocab_size)
    while True:
        order = np.arange(len(rows) * beams)
        fed = np.zeros((len(order), 1), np.int64)
        for number, row in enumerate(rows):
            if row.done:
                continue
            first = number * beams
            largest = logits[first : first + beams, 0].max()  # NaN counts as the largest
            if not np.isfinite(largest):
                raise no_token(f"the model's largest logit is {largest}", len(row.running[0]))
            scores = log_softmax(logits[first : first + beams, 0])
            if editor.edits:
                scores = np.stack([editor(number, said, one) for said, one in zip(row.running, scores, strict=True)])
            order[first : first + beams] = first + row.advance(scores)
            fed[first : first + beams, 0] = [said[-1] for said in row.running]
        if all(row.done for row in rows):
            return [row.result() for row in rows]
        with turns or nullcontext():
            state.reorder(order)
            lengths = state.lengths
            for number, row in enumerate(rows):
                if row.done:  # costs next to nothing from now on
                    lengths[number * beams : (number + 1) * beams] = 0
            state.rewind(lengths)
            logits = backend.forward(fed, state)


class _Editor:
    """Applies the options that change scores to one beam."""

    def __init__(
        self, options: SamplingOptions, prompts: Sequence[Sequence[int]], rules: Sequence[RowRules], *, vocab_size: int
    ) -> None:
        self._rules: list[RowRules | None] = [*rules] or [None] * len(prompts)
        self.edits = any(edits_scores(options, one) for one in self._rules)
        self._options = options
        self._prompts = prompts
        self._vocab_size = vocab_size

    def __call__(self, row: int, answer: Sequence[int], scores: Scores) -> Scores:
        ids = [*self._prompts[row], *answer]
        counts = np.bincount(np.asarray(answer, np.int64), minlength=self._vocab_size)
        edited = edit_scores(scores, self._options, ids=ids, seen=np.unique(ids), counts=counts, rules=self._rules[row])
        if self._options.renormalize_logits:
            edited -= edited.max()
            edited -= np.log(np.exp(edited).sum())
        return edited


@dataclass(kw_only=True)
class _Row:
    """The beams of one row, those that go on and the best of those that have ended, both the best first."""

    beams: int
    limit: int
    ends: npt.NDArray[np.int64]
    model_ends: frozenset[int]
    length_penalty: float
    early_stopping: EarlyStopping
    done: bool = False
    running: list[tuple[int, ...]] = field(default_factory=list)
    finished: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.running = [()] * self.beams
        # All beams begin alike: only the first one's continuations count in the first step.
        self._sums = np.array([0.0, *[_NEVER] * (self.beams - 1)])
        self._improvable = True

    def advance(self, scores: Scores) -> npt.NDArray[np.int64]:
        """Take one step.

        Args:
            scores: log-probabilities of the next token of each beam, float64 [beams, V].

        Returns:
            int64 [beams]: which beam each of the new ones continues.
        """
        length = len(self.running[0]) + 1
        count = max(2, 1 + len(self.ends)) * self.beams
        sums = (scores + self._sums[:, None]).reshape(-1)
        chosen = _largest(sums, min(count, len(sums)))
        parents, tokens = np.divmod(chosen, scores.shape[1])
        ended = np.isin(tokens, self.ends) | (length >= self.limit)
        said = [(*self.running[parent], int(token)) for parent, token in zip(parents, tokens, strict=True)]
        self._keep_finished(sums[chosen], said, ended, length)
        going = _largest(sums[chosen] + np.where(ended, _NEVER, 0.0), self.beams)
        self.running = [said[index] for index in going]
        self._sums = (sums[chosen] + np.where(ended, _NEVER, 0.0))[going]
        self._improvable = self._improvable and self._may_improve(length)
        full = len(self.finished) == self.beams
        self.done = bool(ended.all()) or not self._improvable or (full and self.early_stopping is True)
        return parents[going]

    def _keep_finished(
        self, sums: Scores, sequences: list[tuple[int, ...]], ended: npt.NDArray[np.bool_], length: int
    ) -> None:
        """Sequences that ended count when they are among the first ``beams`` of all continuations."""
        if not self._improvable or (len(self.finished) == self.beams and self.early_stopping is True):
            return
        endings = [
            (float(total) / length**self.length_penalty, sequence)
            for total, sequence, over in list(zip(sums, sequences, ended, strict=True))[: self.beams]
            if over and float(total) / length**self.length_penalty > _NEVER
        ]
        self.finished = sorted([*self.finished, *endings], key=lambda item: -item[0])[: self.beams]

    def _may_improve(self, length: int) -> bool:
        """Whether the best running beam could still be better than the worst finished one."""
        if len(self.finished) < self.beams:
            return True
        longest = self.limit if self.early_stopping == "never" and self.length_penalty > 0 else length
        return bool(self._sums[0] / longest**self.length_penalty > self.finished[-1][0])

    def result(self) -> BeamResult:
        if not self.finished:
            raise no_token("no sequence that ends is possible", self.limit)
        score, token_ids = self.finished[0]
        last = token_ids[-1]
        reason: FinishReason = "length"
        if last in self.ends:
            reason = "eos" if last in self.model_ends else "stop"
        return BeamResult(token_ids=token_ids, score=score, finish_reason=reason)


def _largest(values: Scores, count: int) -> npt.NDArray[np.int64]:
    """Indices of the ``count`` largest values, the largest first; among equal ones the lower index."""
    places = np.argpartition(-values, count - 1)[:count] if count < len(values) else np.arange(len(values))
    return places[np.lexsort((places, -values[places]))]
