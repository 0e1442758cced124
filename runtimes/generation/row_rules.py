"""Applies the rules of one row to its logits, in the order in which transformers' ``generate`` does (5.23).

Stateless between steps: everything follows from the tokens so far, so that beams may exchange them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jisu.runtimes.generation.token_rules import TokenRules, ids_of

Scores = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


class RowRules:
    """The rules of one row.

    Args:
        rules: what was asked for.
        prompt: how many tokens the row began with.
        read: what the model reads: its source, or else the prompt.
        limit: new tokens that the row may have.
        ends: the model's end tokens; none when they do not end the answer.
    """

    def __init__(
        self, rules: TokenRules, *, prompt: int, read: Sequence[int], limit: int, ends: Sequence[int] = ()
    ) -> None:
        self.active = rules.restricts
        self._rules = rules
        self._prompt = prompt
        self._limit = limit
        self._ends = np.array(sorted(set(ends)), np.int64)
        self._read = np.asarray(read, np.int64)
        self._biases = rules.biases
        # A model that may never end would be no use: an end token alone is no bad word.
        self._bad = [tuple(word) for word in rules.bad_words_ids or () if not (len(word) == 1 and word[0] in ends)]
        self._suppressed = np.array(sorted(set(rules.suppress_tokens or ())), np.int64)
        self._not_first = np.array(sorted(set(rules.begin_suppress_tokens or ())), np.int64)
        self._first, self._last = ids_of(rules.forced_bos_token_id), ids_of(rules.forced_eos_token_id)

    def bias(self, ids: Ids, scores: Scores) -> None:
        """What comes before the penalties, changed in place: biases of sequences, and the penalty of what was read."""
        for sequence, bias in self._biases.items():
            if _ends_with(ids, sequence[:-1]):
                scores[sequence[-1]] += bias
        penalty = self._rules.encoder_repetition_penalty
        if penalty not in (None, 1):
            seen = np.unique(self._read)
            values = scores[seen]
            scores[seen] = np.where(values < 0, values / penalty, values * penalty)

    def restrict(self, ids: Ids, scores: Scores) -> None:
        """What comes behind the penalties, changed in place."""
        rules, length = self._rules, len(ids)
        if rules.no_repeat_ngram_size:
            scores[_continuations(ids, ids, rules.no_repeat_ngram_size)] = -np.inf
        if rules.encoder_no_repeat_ngram_size:
            scores[_continuations(self._read, ids, rules.encoder_no_repeat_ngram_size)] = -np.inf
        for word in self._bad:
            if _ends_with(ids, word[:-1]):
                scores[word[-1]] = -np.inf
        if length < max(rules.min_length or 0, self._prompt + (rules.min_new_tokens or 0)):
            scores[self._ends] = -np.inf
        if self._first and length == 1:
            _force(scores, self._first)
        if self._last and length == self._prompt + self._limit - 1:
            _force(scores, self._last)
        self._favour_end(length - self._prompt, scores)
        scores[self._suppressed] = -np.inf
        # Where the first token is forced, the one behind it is the first of the answer's own.
        if length == self._prompt + (1 if self._prompt == 1 and self._first else 0):
            scores[self._not_first] = -np.inf

    def _favour_end(self, length: int, scores: Scores) -> None:
        if not self._rules.exponential_decay_length_penalty:
            return
        start, factor = self._rules.exponential_decay_length_penalty
        if length > start:
            values = scores[self._ends]
            grown = np.abs(values) * (float(factor) ** (length - start) - 1)
            scores[self._ends] = np.where(np.isfinite(values), values + grown, values)


def _ends_with(ids: Ids, tail: Sequence[int]) -> bool:
    return len(tail) <= len(ids) and (not tail or bool((ids[-len(tail) :] == np.asarray(tail)).all()))


def _continuations(history: Ids, ids: Ids, size: int) -> Ids:
    """Tokens that would complete a sequence of ``size`` tokens of ``history`` behind the last ones of ``ids``."""
    if len(history) < size or len(ids) + 1 < size:
        return np.zeros(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(history, size)
    tail = ids[len(ids) - size + 1 :]
    return np.asarray(windows[(windows[:, :-1] == tail).all(axis=1), -1], np.int64)


def _force(scores: Scores, tokens: Sequence[int]) -> None:
    scores[:] = -np.inf
    scores[list(tokens)] = 0.0
