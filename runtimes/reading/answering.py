"""A question and a context -> the span of the context that answers, through windows of a long one.

Every window is the question and a piece of the context; pieces overlap, so that an answer is whole in one of them. What
is no token of the context cannot be part of an answer. The first token of a window stands for "there is no answer", as
models are trained on questions without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jisu.exporter.contract.backend import Logits
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.generation.text import TextCodec, check_unicode
from jisu.runtimes.reading.classification import Scores, probabilities_of


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A span of the context, ``context[start:end]`` in characters; empty where the text has no answer.

    ``score`` is the probability of its beginning times that of its end, in its window.
    """

    text: str
    score: float
    start: int
    end: int


def encode_windows(codec: TextCodec, question: str, context: str, *, window: int, stride: int) -> list[Any]:
    """A question with each piece of a context, as the tokenizers package encodes them.

    Args:
        window: most tokens of a question, a piece and the special tokens.
        stride: tokens that a piece shares with the one before it.

    Raises:
        InputError: the question leaves no room for a piece, or there is no token in the context.
    """
    check_unicode(question)
    check_unicode(context)
    tokenizer = codec.tokenizer
    query, text = (tokenizer.encode(one, add_special_tokens=False) for one in (question, context))
    if not text.ids:
        raise InputError(
            "There is no answer in a context without tokens",
            received=shown(context),
            allowed="a text of which the tokenizer knows something",
            fix="Give a text with words.",
        )
    room = window - len(query.ids) - tokenizer.num_special_tokens_to_add(is_pair=True)
    if room <= stride:
        raise InputError(
            "The question leaves no room for the context",
            received=f"{len(query.ids)} tokens of the question in windows of {window} that share {stride}",
            allowed=f"a question of at most {max(0, window - stride - 1 - (window - room - len(query.ids)))} tokens",
            fix="Shorten the question, or make stride smaller.",
        )
    if len(text.ids) > room:
        text.truncate(room, stride=stride)
    # One by one: joined with all pieces at once, the tokenizers package gives those behind the first wrong types.
    pieces = [text, *text.overflowing]
    return [tokenizer.post_process(query, piece, add_special_tokens=True) for piece in pieces]


def best_answers(
    windows: Sequence[Any],
    logits: Sequence[Logits],
    context: str,
    *,
    top_k: int,
    longest: int,
    may_be_none: bool,
) -> list[Answer]:
    """The best spans of all windows, the best first; one span counts once, with its best score.

    Args:
        logits: float32 [T, 2] of each window: where an answer begins, and where it ends.
        longest: tokens of an answer at most.
        may_be_none: whether "there is no answer" is among the answers, with the least score of all windows for it.
    """
    answers: dict[tuple[int, int], float] = {}
    no_answer = 1.0
    for encoding, numbers in zip(windows, logits, strict=True):
        inside = np.array([one == 1 for one in encoding.sequence_ids])
        begins, ends = _probabilities(numbers, inside)
        no_answer = min(no_answer, float(begins[0] * ends[0]))
        for first, last, score in _spans(np.where(inside, begins, 0.0), np.where(inside, ends, 0.0), top_k, longest):
            if not inside[first] or not inside[last]:
                continue
            place = _whole_words(encoding, first, last)
            answers[place] = max(score, answers.get(place, 0.0))
    listed = [
        Answer(text=context[start:end], score=score, start=start, end=end) for (start, end), score in answers.items()
    ]
    if may_be_none:
        listed.append(Answer(text="", score=no_answer, start=0, end=0))
    return sorted(listed, key=lambda answer: (-answer.score, answer.start, answer.end))[:top_k]


def _probabilities(numbers: Logits, inside: Any) -> tuple[Scores, Scores]:
    """Of each token to begin and to end the answer, float64 [T]; the first token is one of those that share."""
    counts = inside.copy()
    counts[0] = True
    hidden = np.where(counts[:, None], numbers.astype(np.float64), -np.inf)
    begins, ends = probabilities_of(hidden.T)
    return begins, ends


def _spans(begins: Scores, ends: Scores, top_k: int, longest: int) -> list[tuple[int, int, float]]:
    """(first, last, score) of the best spans i <= j < i + longest by begins[i] ends[j], the best first.

    In one pass over the lengths of a span, so that a window takes T x longest numbers and not T x T.
    """
    count = len(begins)
    lengths = min(longest, count)
    scores: Scores = np.zeros((lengths, count))
    for length in range(lengths):
        scores[length, : count - length] = begins[: count - length] * ends[length:]
    flat = scores.ravel()
    kept = min(top_k, len(flat))
    best = np.argpartition(-flat, kept - 1)[:kept]
    order = best[np.lexsort((best, -flat[best]))]
    return [(int(one % count), int(one % count + one // count), float(flat[one])) for one in order if flat[one] > 0]


def _whole_words(encoding: Any, first: int, last: int) -> tuple[int, int]:
    """The characters from the beginning of the first token's word to the end of the last one's."""
    words = [encoding.token_to_word(token) for token in (first, last)]
    if None not in words:
        places = [encoding.word_to_chars(word, sequence_index=1) for word in words]
        if None not in places:
            return int(places[0][0]), int(places[1][1])
    return int(encoding.offsets[first][0]), int(encoding.offsets[last][1])
