"""How likely a model finds given tokens: log-probabilities, for perplexity and for multiple-choice evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import Backend, Logits
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.token_ids import check_ids
from jisu.runtimes.generation.sampling import log_softmax

# Logits of one call: a long text over a large vocabulary would otherwise need gigabytes.
_LOGITS_BYTES = 128 << 20
# Positions turned to float64 at a time.
_POSITIONS = 16


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """Scores of one sequence of n tokens.

    ``logprobs``, float64 [n - 1], is each token's log-probability (natural) given those before it, from the second on;
    ``greedy``, bool [n - 1], tells where it was the most likely one.
    """

    token_ids: tuple[int, ...]
    logprobs: npt.NDArray[np.float64]
    greedy: npt.NDArray[np.bool_]


def score_tokens(backend: Backend, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
    """Score sequences of any lengths, several at a time; the results are in the order given.

    Raises:
        InputError: a sequence without tokens or longer than the model's positions, or logits that are not finite.
    """
    limit = backend.max_positions
    for index, sequence in enumerate(sequences):
        if not sequence or (limit is not None and len(sequence) > limit):
            raise InputError(
                f"Sequence {index} cannot be scored" if len(sequences) > 1 else "The sequence cannot be scored",
                received=f"{len(sequence)} tokens",
                allowed="at least 1 token" if limit is None else f"1 to {limit} tokens",
                fix="Leave out empty texts and split long ones.",
            )
    check_ids(sequences, backend.vocab_size)
    scores: list[TokenScores | None] = [None] * len(sequences)
    for group in _groups([len(sequence) for sequence in sequences], _LOGITS_BYTES // (4 * backend.vocab_size)):
        group_scores = _score_group(backend, [list(sequences[index]) for index in group])
        for index, item in zip(group, group_scores, strict=True):
            scores[index] = item
    done = [item for item in scores if item is not None]
    assert len(done) == len(sequences), "every sequence is in exactly one group"
    return done


def _groups(lengths: Sequence[int], positions: int) -> Iterator[list[int]]:
    """Indices of sequences of like length whose padded batch has at most ``positions`` logits (or is one sequence)."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if group and (len(group) + 1) * lengths[index] > positions:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _score_group(backend: Backend, sequences: list[list[int]]) -> list[TokenScores]:
    longest = max(len(sequence) for sequence in sequences)
    pairs_by_row: list[list[tuple[float, bool]]] = [[] for _ in sequences]
    if longest > 1:
        state = backend.new_state(len(sequences), longest)
        width = longest if len(sequences) > 1 else max(1, min(longest, _LOGITS_BYTES // (4 * backend.vocab_size)))
        tokens = np.zeros((len(sequences), longest), np.int64)
        for row, sequence in enumerate(sequences):
            tokens[row, : len(sequence)] = sequence
        lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        for start in range(0, longest, width):
            piece = tokens[:, start : start + width]
            new = lengths if len(sequences) > 1 else None
            logits = backend.forward(piece, state, new_lengths=new, logits="all")
            for row, sequence in enumerate(sequences):
                pairs_by_row[row] += _token_scores(logits[row], sequence[start + 1 : start + 1 + piece.shape[1]])
    return [_checked(sequence, pairs) for sequence, pairs in zip(sequences, pairs_by_row, strict=True)]


def _token_scores(logits: Logits, following: Sequence[int]) -> Iterator[tuple[float, bool]]:
    """Log-probability and rank-one flag of each following token under the logits before it."""
    for start in range(0, len(following), _POSITIONS):
        targets = np.asarray(following[start : start + _POSITIONS], np.int64)
        logprobs = log_softmax(logits[start : start + len(targets)])
        chosen = np.take_along_axis(logprobs, targets[:, None], axis=1)[:, 0]
        greedy = logprobs.argmax(axis=1) == targets
        yield from zip(chosen.tolist(), greedy.tolist(), strict=True)


def _checked(sequence: Sequence[int], pairs: list[tuple[float, bool]]) -> TokenScores:
    assert len(pairs) == len(sequence) - 1, "one score for each token but the first"
    logprobs = np.array([value for value, _ in pairs], np.float64)
    if np.isnan(logprobs).any():
        raise InputError(
            "The model's logits are not finite",
            received=f"NaN after token {int(np.argmax(np.isnan(logprobs)))}",
            allowed="finite logits",
            fix="Check the artifact with `jisu verify`.",
        )
    return TokenScores(
        token_ids=tuple(sequence), logprobs=logprobs, greedy=np.array([flag for _, flag in pairs], np.bool_)
    )
