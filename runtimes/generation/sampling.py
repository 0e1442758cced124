"""From one row of logits to one token: seeded, in float64, and the same on every backend whose logits agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.row_rules import RowRules
from jisu.runtimes.generation.truncation import above_epsilon, above_eta, typical, within_entropy

Scores = npt.NDArray[np.float64]

# Weights relative to the likeliest token from which a nucleus is looked for, one after the other; the last takes all.
_NUCLEUS_FLOORS = (1e-2, 1e-4, 1e-7, 0.0)
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class TokenLogprobs:
    """The model's own log-probability (natural) of a token, and the most likely tokens with theirs.

    ``top`` has (token id, log-probability), the likeliest first. ``text`` and ``top_texts`` are how the tokens read
    after those before them: empty without a tokenizer, a replacement character where a token is a part of one.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    text: str = ""
    top_texts: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What JSON writes: ``token``, ``text``, ``logprob``, and ``top``, a list of the same three."""
        texts = self.top_texts or ("",) * len(self.top)
        top = [
            {"token": token, "text": text, "logprob": logprob}
            for (token, logprob), text in zip(self.top, texts, strict=True)
        ]
        return {"token": self.token, "text": self.text, "logprob": self.logprob, "top": top}


class RowSampler:
    """Chooses the tokens of one row.

    Args:
        options: checked options.
        random: what tokens are drawn with, see `runtimes.generation.seeds`; None where nothing is drawn.
        prompt: the row's prompt ids, for the repetition penalty and the processors.
        vocab_size: V.
        rules: of this row, where the options have some.

    Raises:
        InputError: the options name a token that is not in the vocabulary.
    """

    def __init__(
        self,
        options: SamplingOptions,
        *,
        prompt: Sequence[int],
        vocab_size: int,
        random: np.random.Generator | None = None,
        rules: RowRules | None = None,
    ) -> None:
        check_tokens(options, vocab_size)
        self._options = options
        self._random = random or np.random.default_rng()
        self._ids = [int(token) for token in prompt]
        self._seen = np.zeros(vocab_size, bool)
        self._seen[self._ids] = True
        self._counts = np.zeros(vocab_size, np.int64)
        self._rules = rules
        self._edits = edits_scores(options, rules)

    @property
    def needs(self) -> int | None:
        """How many of the largest logits are enough to choose by; None where all of them are needed."""
        if self._edits:
            return None
        if self._options.is_greedy:
            return 1
        top_k = self._options.top_k
        return top_k if top_k is not None and top_k > 0 and self._options.top_h is None else None

    def choose(self, logits: npt.NDArray[np.float32], *, step: int) -> int:
        """Choose the next token from float32 [V] and remember it.

        Raises:
            InputError: NaN or +inf among the logits, or every token forbidden; ``step`` says where.
        """
        best = int(np.argmax(logits))  # NaN counts as the largest
        if not np.isfinite(logits[best]):
            raise no_token(f"the model's largest logit is {logits[best]}", step)
        if self._edits:
            scores = edit_scores(
                logits.astype(np.float64),
                self._options,
                ids=self._ids,
                seen=np.flatnonzero(self._seen),
                counts=self._counts,
                rules=self._rules,
            )
            best = int(np.argmax(scores))
            if not np.isfinite(scores[best]):
                raise no_token(f"after bias, penalties and processors the largest logit is {scores[best]}", step)
        elif not self._options.is_greedy:
            scores = logits.astype(np.float64)
        token = best if self._options.is_greedy else draw(scores, self._options, float(self._random.random()))
        self._ids.append(token)
        self._seen[token] = True
        self._counts[token] += 1
        return token


def edits_scores(options: SamplingOptions, rules: RowRules | None) -> bool:
    """Whether `edit_scores` would change anything."""
    return bool(
        (rules is not None and rules.active)
        or options.repetition_penalty not in (None, 1)
        or options.frequency_penalty
        or options.presence_penalty
        or options.logit_bias
        or options.logits_processors
    )


def edit_scores(
    scores: Scores,
    options: SamplingOptions,
    *,
    ids: Sequence[int],
    seen: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    rules: RowRules | None = None,
) -> Scores:
    """Penalties, bias, rules and processors, in this order; a bias of sequences comes first.

    Args:
        scores: float64 [V], changed in place.
        ids: the row's tokens so far, the prompt's included.
        seen: the tokens among them, each once.
        counts: how often the answer has each token, int64 [V].
        rules: of the row.

    Raises:
        InputError: a processor returned something of another shape.
    """
    said = np.asarray(ids, np.int64) if rules is not None and rules.active else None
    if rules is not None and said is not None:
        rules.bias(said, scores)
    if options.repetition_penalty is not None:
        values = scores[seen]
        scores[seen] = np.where(values > 0, values / options.repetition_penalty, values * options.repetition_penalty)
    if options.frequency_penalty or options.presence_penalty:
        used = np.flatnonzero(counts)
        scores[used] -= (options.frequency_penalty or 0) * counts[used] + (options.presence_penalty or 0)
    for token, bias in options.logit_bias.items():
        scores[token] += bias
    if rules is not None and said is not None:
        rules.restrict(said, scores)
    for process in options.logits_processors:
        shape = scores.shape
        scores = np.asarray(process(tuple(ids), scores), np.float64)
        if scores.shape != shape:
            raise InputError(
                "A logits processor returned another shape",
                received=scores.shape,
                allowed=shape,
                fix="Return one number for each token of the vocabulary.",
            )
    return scores


def check_tokens(options: SamplingOptions, vocab_size: int) -> None:
    """Raise InputError when the options name a token that is not in the vocabulary."""
    named = (*options.logit_bias, *options.stop_ids, *sorted(options.named_tokens))
    unknown = [token for token in named if token >= vocab_size]
    if unknown:
        raise InputError(
            "Generation options name tokens that are not in the vocabulary",
            received=unknown,
            allowed=f"0 to {vocab_size - 1}",
            fix="Use ids of this model's tokenizer.",
        )


def draw(scores: Scores, options: SamplingOptions, uniform: float) -> int:
    """Draw a token by inverting the cumulative distribution, in the order of the token ids.

    Args:
        scores: float64 [V], at least one finite, none NaN or +inf.
        options: temperature above 0, top_k, top_p and min_p are used.
        uniform: a number in [0, 1).
    """
    tokens, weights = _weights(scores, options)
    # First the block, then the token in it: one running sum over the whole vocabulary takes longer than all the rest.
    starts = np.arange(0, len(weights), _BLOCK)
    ends = np.cumsum(np.add.reduceat(weights, starts))
    target = uniform * float(ends[-1])
    block = _first_above(ends, target)
    within = np.cumsum(weights[starts[block] : starts[block] + _BLOCK])
    index = int(starts[block]) + _first_above(within, target - (float(ends[block - 1]) if block else 0.0))
    return index if tokens is None else int(tokens[index])


def distribution(scores: Scores, options: SamplingOptions) -> tuple[npt.NDArray[np.int64], Scores]:
    """The tokens that may be drawn, in ascending order, and their probabilities (they sum to 1), both [kept].

    Temperature, then top-h, top-k, top-p, min-p, typical-p, epsilon and eta. Among equally likely
    tokens at an edge the lower ids stay.
    """
    tokens, weights = _weights(scores, options)
    kept = np.flatnonzero(weights)
    return kept if tokens is None else tokens[kept], weights[kept] / weights.sum()


def token_logprobs(logits: npt.NDArray[np.float32], token: int, *, top: int) -> TokenLogprobs:
    """Log-probabilities of one step from the model's own logits, float32 [V]: x - log(sum(exp(x)))."""
    scores = logits.astype(np.float64)
    peak = float(scores.max())
    total = peak + float(np.log(np.exp(scores - peak).sum()))
    likeliest = _top_k(scores, min(top, len(scores))) if top else np.zeros(0, np.int64)
    likeliest = likeliest[np.argsort(-scores[likeliest], kind="stable")]
    return TokenLogprobs(
        token=int(token),
        logprob=float(scores[token]) - total,
        top=tuple((int(index), float(scores[index]) - total) for index in likeliest),
    )


def log_softmax(logits: npt.NDArray[np.float32]) -> Scores:
    """float [..., V] -> float64 [..., V]: x - max - log(sum(exp(x - max)))."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores


def _weights(scores: Scores, options: SamplingOptions) -> tuple[npt.NDArray[np.int64] | None, Scores]:
    """Token ids in ascending order (None for all) and their weights, the likeliest 1, forbidden ones 0."""
    assert options.temperature
    tokens = None
    top_k = options.top_k if options.top_k is not None and options.top_k > 0 else None
    if top_k is not None and top_k < len(scores) and options.top_h is None:
        tokens = _top_k(scores, top_k)  # a temperature does not change which are the largest
        scores = scores[tokens]
    # Divided by almost nothing the differences become -inf, which is what they mean.
    with np.errstate(over="ignore"):
        weights = np.exp((scores - scores.max()) / options.temperature)
    for keep in _filters(options, top_k):
        kept = keep(weights)
        kept = np.flatnonzero(kept) if kept.dtype == bool else kept
        tokens, weights = kept if tokens is None else tokens[kept], weights[kept]
    return tokens, weights


def _filters(options: SamplingOptions, top_k: int | None) -> Iterator[Callable[[Scores], npt.NDArray[Any]]]:
    """What narrows the choice behind the temperature, in order: from weights to a mask or ascending indices."""
    if options.top_h is not None:
        yield partial(within_entropy, share=options.top_h)
        if top_k is not None:
            yield lambda weights: _top_k(weights, min(top_k, len(weights)))
    if options.top_p is not None and options.top_p < 1:
        yield partial(_nucleus, top_p=options.top_p)
    if options.min_p:
        yield lambda weights: weights >= (options.min_p or 0)
    if options.typical_p is not None and 0 < options.typical_p < 1:
        yield partial(typical, mass=options.typical_p)
    if options.epsilon_cutoff:
        yield partial(above_epsilon, epsilon=options.epsilon_cutoff)
    if options.eta_cutoff:
        yield partial(above_eta, epsilon=options.eta_cutoff)


def _top_k(scores: Scores, k: int) -> npt.NDArray[np.int64]:
    """Ids of the k largest scores in ascending order; among equal ones at the edge the lower ids."""
    return _largest(scores, k, float(np.partition(scores, len(scores) - k)[len(scores) - k]))


def _largest(scores: Scores, count: int, edge: float) -> npt.NDArray[np.int64]:
    """Ids, ascending, of the ``count`` largest scores, the smallest of which is ``edge``."""
    places = np.flatnonzero(scores >= edge)
    if len(places) > count:
        surplus = places[scores[places] == edge][count - len(places) :]
        places = np.setdiff1d(places, surplus, assume_unique=True)
    return places


def _nucleus(weights: Scores, top_p: float) -> npt.NDArray[np.int64]:
    """Indices, ascending, of the fewest largest weights that have ``top_p`` of the sum; lower indices among equals."""
    needed = top_p * float(weights.sum())
    for floor in _NUCLEUS_FLOORS:  # sorting the whole vocabulary is slow and hardly ever needed
        large = weights[weights >= floor]
        if large.sum() >= needed:
            break
    ordered = np.sort(large)[::-1]
    count = min(int(np.searchsorted(np.cumsum(ordered), needed, side="left")) + 1, len(ordered))
    return _largest(weights, count, float(ordered[count - 1]))


def _first_above(cumulative: Scores, target: float) -> int:
    """Index of the first sum above ``target``; rounding at the very end gives the last one that adds something."""
    index = int(np.searchsorted(cumulative, target, side="right"))
    return index if index < len(cumulative) else int(np.searchsorted(cumulative, cumulative[-1], side="left"))


def no_token(what: str, step: int) -> InputError:
    """The error of logits from which nothing can be chosen."""
    return InputError(
        f"No token can be chosen at step {step}",
        received=what,
        allowed="finite logits, or -inf for some of them",
        fix="Check the artifact with `jisu verify`, or correct the logit bias and processors.",
    )
