"""From one row of logits to one token: seeded, in float64, and the same on every backend whose logits agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.errors import InputError
from runtimes.options import SamplingOptions

Scores = npt.NDArray[np.float64]

# Tokens this far below the best one share at most V * exp(-16) of the probability: a nucleus hardly ever needs them.
_NUCLEUS_DEPTH = 16.0


@dataclass(frozen=True, kw_only=True)
class TokenLogprobs:
    """The model's own log-probability of a token, and the most likely tokens with theirs, the likeliest first."""

    logprob: float
    top: tuple[tuple[int, float], ...]


class RowSampler:
    """Chooses the tokens of one row.

    Args:
        options: checked options.
        row: the row's number in its batch; with the seed it decides the random numbers.
        prompt: the row's prompt ids, for the repetition penalty and the processors.
        vocab_size: V.

    Raises:
        InputError: the options name a token that is not in the vocabulary.
    """

    def __init__(self, options: SamplingOptions, *, row: int, prompt: Sequence[int], vocab_size: int) -> None:
        unknown = [token for token in (*options.logit_bias, *options.stop_ids) if token >= vocab_size]
        if unknown:
            raise InputError(
                "logit_bias or stop_ids name tokens that are not in the vocabulary",
                received=unknown,
                allowed=f"0 to {vocab_size - 1}",
                fix="Use ids of this model's tokenizer.",
            )
        self._options = options
        self._random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(_entropy(options.seed, row))))
        self._ids = [int(token) for token in prompt]
        self._seen = np.zeros(vocab_size, bool)
        self._seen[self._ids] = True
        self._counts = np.zeros(vocab_size, np.int64)
        self._edits = bool(
            options.repetition_penalty not in (None, 1)
            or options.frequency_penalty
            or options.presence_penalty
            or options.logit_bias
            or options.logits_processors
        )

    def choose(self, logits: npt.NDArray[np.float32], *, step: int) -> int:
        """Choose the next token from float32 [V] and remember it.

        Raises:
            InputError: NaN or +inf among the logits, or every token forbidden; ``step`` says where.
        """
        best = int(np.argmax(logits))  # NaN counts as the largest
        if not np.isfinite(logits[best]):
            raise _no_token(f"the model's largest logit is {logits[best]}", step)
        if self._edits:
            scores = self._edited(logits.astype(np.float64))
            best = int(np.argmax(scores))
            if not np.isfinite(scores[best]):
                raise _no_token(f"after bias, penalties and processors the largest logit is {scores[best]}", step)
        elif not self._options.is_greedy:
            scores = logits.astype(np.float64)
        token = best if self._options.is_greedy else draw(scores, self._options, float(self._random.random()))
        self._ids.append(token)
        self._seen[token] = True
        self._counts[token] += 1
        return token

    def _edited(self, scores: Scores) -> Scores:
        options = self._options
        if options.repetition_penalty is not None:
            seen = np.flatnonzero(self._seen)
            values = scores[seen]
            scores[seen] = np.where(
                values > 0, values / options.repetition_penalty, values * options.repetition_penalty
            )
        if options.frequency_penalty or options.presence_penalty:
            said = np.flatnonzero(self._counts)
            scores[said] -= (options.frequency_penalty or 0) * self._counts[said] + (options.presence_penalty or 0)
        for token, bias in options.logit_bias.items():
            scores[token] += bias
        for process in options.logits_processors:
            shape = scores.shape
            scores = np.asarray(process(tuple(self._ids), scores), np.float64)
            if scores.shape != shape:
                raise InputError(
                    "A logits processor returned another shape",
                    received=scores.shape,
                    allowed=shape,
                    fix="Return one number for each token of the vocabulary.",
                )
        return scores


def draw(scores: Scores, options: SamplingOptions, uniform: float) -> int:
    """Draw a token by inverting the cumulative distribution, in the order of the token ids.

    Args:
        scores: float64 [V], at least one finite, none NaN or +inf.
        options: temperature above 0, top_k, top_p and min_p are used.
        uniform: a number in [0, 1).
    """
    assert options.temperature
    tokens, probabilities = distribution(scores, options)
    cumulative = np.cumsum(probabilities)
    index = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return int(tokens[min(index, len(tokens) - 1)])


def distribution(scores: Scores, options: SamplingOptions) -> tuple[npt.NDArray[np.int64], Scores]:
    """The tokens that may be drawn, in ascending order, and their probabilities (they sum to 1), both [kept].

    Temperature, then top-k, then top-p, then min-p. Among equally likely tokens at an edge the lower ids stay.
    """
    assert options.temperature
    peak = float(scores.max())
    # Only a wide margin above 0 divides safely: at 1e-320 the differences overflow to -inf, which is what they mean.
    with np.errstate(over="ignore"):
        scaled = (scores - peak) / options.temperature
    tokens = _top_k(scaled, options.top_k)
    scaled = scaled[tokens]
    weights = np.exp(scaled)
    weights /= weights.sum()
    if options.top_p is not None and options.top_p < 1:
        kept = _nucleus(scaled, weights, options.top_p)
        tokens, weights = tokens[kept], weights[kept]
    if options.min_p:
        kept = np.flatnonzero(weights >= options.min_p * weights.max())
        tokens, weights = tokens[kept], weights[kept]
    return tokens, weights / weights.sum()


def token_logprobs(logits: npt.NDArray[np.float32], token: int, *, top: int) -> TokenLogprobs:
    """Log-probabilities of one step from the model's own logits, float32 [V]."""
    scores = log_softmax(logits)
    count = min(top, len(scores))
    likeliest = np.sort(_top_k(scores, count)) if count else np.zeros(0, np.int64)
    likeliest = likeliest[np.argsort(-scores[likeliest], kind="stable")]
    return TokenLogprobs(
        logprob=float(scores[token]), top=tuple((int(index), float(scores[index])) for index in likeliest)
    )


def log_softmax(logits: npt.NDArray[np.float32]) -> Scores:
    """float [..., V] -> float64 [..., V]: x - max - log(sum(exp(x - max)))."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores


def _top_k(scores: Scores, k: int | None) -> npt.NDArray[np.int64]:
    """Ids of the k largest scores in ascending order, without those at -inf."""
    if k is None or k >= len(scores):
        return np.flatnonzero(scores > -np.inf)
    edge = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > edge)
    if edge == -np.inf:
        return above
    level = np.flatnonzero(scores == edge)[: k - len(above)]
    return np.sort(np.concatenate([above, level]))


def _nucleus(scaled: Scores, weights: Scores, top_p: float) -> npt.NDArray[np.int64]:
    """Indices, ascending, of the fewest largest weights whose sum reaches ``top_p``."""
    candidates = np.flatnonzero(scaled > -_NUCLEUS_DEPTH)
    if weights[candidates].sum() < top_p:
        candidates = np.arange(len(weights))
    order = candidates[np.argsort(-weights[candidates], kind="stable")]
    count = int(np.searchsorted(np.cumsum(weights[order]), top_p, side="left")) + 1
    return np.sort(order[:count])


def _entropy(seed: int | None, row: int) -> Sequence[int] | None:
    return None if seed is None else (seed, row)


def _no_token(what: str, step: int) -> InputError:
    return InputError(
        f"No token can be chosen at step {step}: {what}",
        allowed="finite logits, or -inf for some of them",
        fix="Run the gate on this artifact again, or correct the logit bias and processors.",
    )
