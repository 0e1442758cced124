"""How likely a model finds a continuation of a context: what multiple-choice tasks and perplexities are made of.

Token ids only. Every token is scored once and none twice, and the counts are checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jisu.runtimes import Engine

Pair = tuple[list[int], list[int]]  # a context of one token at least, and what follows


def score_continuations(engine: Engine, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
    """Log-probability of each continuation in nats, and whether every token of it is the likeliest one.

    Several are scored in one call. What is too long for the model loses the beginning of its context, and keeps one
    token of it at least; raises ValueError for a pair without context, or whose continuation leaves no room for one.
    """
    limit = engine.backend.max_positions
    sequences = []
    for context, continuation in pairs:
        if not context:
            raise ValueError("a continuation needs one token before it")
        if limit is not None and len(continuation) >= limit:
            raise ValueError(f"{len(continuation)} tokens leave no room for a context in {limit} positions")
        room = None if limit is None else limit - len(continuation)
        sequences.append([*(context if room is None else context[-room:]), *continuation])
    results = []
    for (_, continuation), scores in zip(pairs, engine.score(sequences) if sequences else [], strict=True):
        count = len(continuation)
        logprobs = scores.logprobs[len(scores.logprobs) - count :]
        greedy = scores.greedy[len(scores.greedy) - count :]
        assert len(logprobs) == len(greedy) == count, "one score for each token of the continuation"
        results.append((float(logprobs.sum()), bool(greedy.all())))
    return results


def rolling_pairs(ids: Sequence[int], *, prefix: int, limit: int | None) -> list[Pair]:
    """A text of any length as pairs that fit the model: each token is continued to once, with all context there is.

    Args:
        prefix: the token before the first one.
        limit: positions of the model; None for any number.
    """
    whole = [prefix, *ids]
    size = len(whole) if limit is None else limit
    pairs = []
    done = 1  # tokens that need no score any more; the prefix needs none
    while done < len(whole):
        # The first window begins a text; the others go on by as much as is new, up to the room that a context of one
        # token leaves, and the last one has the longest context.
        stop = min(len(whole), done + size - 1)
        start = max(0, stop - size)
        pairs.append((whole[start:done], whole[done:stop]))
        done = stop
    assert sum(len(continuation) for _, continuation in pairs) == len(ids), "each token is scored once"
    return pairs
