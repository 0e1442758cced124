"""Numbers of tokens -> tags of words or names, with their places in the text.

The ways of merging are those of transformers' pipeline for token classification, and give what it gives.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from jisu.exporter.contract.backend import Logits
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.reading.classification import Scores, probabilities_of

Aggregation = Literal["none", "simple", "first", "average", "max"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
# The label of tokens that are nothing in particular.
OUTSIDE = "O"


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A label and what it belongs to: a token, or several that were merged.

    ``start`` and ``end`` are places in the text, in characters; ``word`` is spelled as the tokenizer does it, and
    ``text[start:end]`` as the text does. ``score`` is the probability of the label, on average where tokens were
    merged. ``token`` counts the tokens before it, special ones included; None where several were merged.
    """

    label: str
    score: float
    word: str
    start: int
    end: int
    token: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A token, or a word of several: its probabilities, and whether it continues the word before it."""

    scores: Scores
    word: str
    start: int
    end: int
    token: int
    continues: bool = False


def check_aggregation(aggregation: object) -> Aggregation:
    """The name of a way to merge tokens; raises InputError for an unknown one."""
    for known in AGGREGATIONS:
        if aggregation == known:
            return known
    raise InputError(
        "There is no such way to merge tokens",
        received=shown(aggregation),
        allowed=", ".join(AGGREGATIONS),
        fix="Choose one of these.",
    )


def check_ignored(ignored: Collection[str], labels: Sequence[str]) -> frozenset[str]:
    """Labels, or names behind B- and I-, that are left out; raises InputError for one that the model does not have.

    `OUTSIDE` need not be there.
    """
    names = {OUTSIDE, *labels, *(_name(label) for label in labels)}
    unknown = [one for one in ([ignored] if isinstance(ignored, str) else ignored) if one not in names]
    if unknown or isinstance(ignored, str):
        raise InputError(
            "The model does not have such a label" if unknown else "Labels to leave out are not one text",
            received=", ".join(map(shown, unknown)) or shown(ignored),
            allowed=f"a list of {', '.join(labels)}",
            fix="Correct the list of labels to leave out.",
        )
    return frozenset(ignored)


def tags_of(
    encoding: Any,
    text: str,
    logits: Logits,
    *,
    tokenizer: Any,
    unknown: int | None,
    labels: Sequence[str],
    aggregation: Aggregation,
    ignored: Collection[str],
) -> list[Tag]:
    """The tags of one text.

    Args:
        encoding: of the text, by the tokenizers package.
        logits: float32 [T, labels].
        unknown: id of the token for what the tokenizer does not know.
        ignored: labels that are left out.
    """
    pieces = _pieces(encoding, text, logits, tokenizer, unknown)
    decode = _decoder(tokenizer)
    if aggregation not in ("none", "simple"):
        pieces = [_word(pieces[start:end], aggregation, decode) for start, end in _words(pieces)]
    tags = [_tag(piece, labels) for piece in pieces]
    if aggregation != "none":
        tags = [_merged(tags[start:end], decode) for start, end in _runs(tags)]
    return [tag for tag in tags if tag.label not in ignored]


def check_windows(aggregation: Aggregation, *, stride: int | None, window: int | None) -> None:
    """Raise InputError for windows whose tags could not be told apart, or that are none."""
    if stride is not None and aggregation == "none":
        raise InputError(
            "Tokens that two windows share have two tags",
            received='stride with the aggregation "none"',
            allowed=f"stride with {', '.join(AGGREGATIONS[1:])}",
            fix="Choose another aggregation, or leave stride out.",
        )
    whole = isinstance(window, int) and not isinstance(window, bool) and window > 0
    if window is not None and (stride is None or not whole):
        raise InputError(
            "This is not a window",
            received=f"window {shown(window)}" + (" without stride" if stride is None else ""),
            allowed="a number of tokens, beside stride",
            fix="Give stride as well, 0 for windows that share nothing.",
        )


def without_overlaps(tags: Sequence[Tag]) -> list[Tag]:
    """Tags of overlapping windows: of those that lie over each other the longest, and of equal ones the surest."""
    kept: list[Tag] = []
    for tag in sorted(tags, key=lambda tag: tag.start):
        if not kept or not kept[-1].start <= tag.start < kept[-1].end:
            kept.append(tag)
        elif (tag.end - tag.start, tag.score) > (kept[-1].end - kept[-1].start, kept[-1].score):
            kept[-1] = tag
    return kept


def _pieces(encoding: Any, text: str, logits: Logits, tokenizer: Any, unknown: int | None) -> list[_Piece]:
    knows_words = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))
    probabilities = probabilities_of(logits)
    pieces = []
    places = zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    for index, (token, word, (start, end), special) in enumerate(places):
        if special:
            continue
        of_text = text[start:end]
        continues = len(word) != len(of_text) if knows_words else start > 0 and " " not in text[start - 1 : start + 1]
        if token == unknown:
            word, continues = of_text, False
        pieces.append(
            _Piece(scores=probabilities[index], word=word, start=start, end=end, token=index, continues=continues)
        )
    return pieces


def _decoder(tokenizer: Any) -> Any:
    """A function that spells some tokens as text."""
    decoder = tokenizer.decoder
    return " ".join if decoder is None else decoder.decode


def _words(pieces: Sequence[_Piece]) -> list[tuple[int, int]]:
    """Where the words begin and end among the tokens."""
    starts = [index for index, piece in enumerate(pieces) if index == 0 or not piece.continues]
    return list(zip(starts, [*starts[1:], len(pieces)], strict=True))


def _word(pieces: Sequence[_Piece], aggregation: Aggregation, decode: Any) -> _Piece:
    """Several tokens as one, with the probabilities of the first, of the surest, or the mean of all."""
    scores = pieces[0].scores
    if aggregation == "max":
        scores = max(pieces, key=lambda piece: float(piece.scores.max())).scores
    elif aggregation == "average":
        scores = np.stack([piece.scores for piece in pieces]).mean(axis=0)
    return replace(pieces[0], scores=scores, word=decode([piece.word for piece in pieces]), end=pieces[-1].end)


def _tag(piece: _Piece, labels: Sequence[str]) -> Tag:
    best = int(piece.scores.argmax())
    return Tag(
        label=labels[best],
        score=float(piece.scores[best]),
        word=piece.word,
        start=piece.start,
        end=piece.end,
        token=piece.token,
    )


def _runs(tags: Sequence[Tag]) -> list[tuple[int, int]]:
    """Where tags of one name begin and end; B- begins another one."""
    starts = [
        index
        for index, tag in enumerate(tags)
        if index == 0 or tag.label.startswith("B-") or _name(tag.label) != _name(tags[index - 1].label)
    ]
    return list(zip(starts, [*starts[1:], len(tags)], strict=True))


def _name(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _merged(tags: Sequence[Tag], decode: Any) -> Tag:
    return Tag(
        label=tags[0].label.split("-", 1)[-1],
        score=float(np.mean([tag.score for tag in tags])),
        word=decode([tag.word for tag in tags]),
        start=tags[0].start,
        end=tags[-1].end,
    )
