"""Documents in the order in which they answer a query, by a model that gives a pair of texts one score.

Of any number of documents only a block is encoded at a time, and no more than a score each is kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown

# Documents that are encoded and run before the next ones are read.
BLOCK = 256
Ranked = list[tuple[int, float]]


def check_query(query: object) -> str:
    """The query; raises InputError for anything but a text, and for an empty one."""
    if not isinstance(query, str) or not query.strip():
        raise InputError(
            "The query is empty" if isinstance(query, str) else "The query is not a text",
            received=shown(query),
            allowed="some text",
            fix="Say what the documents are to answer.",
        )
    return query


def check_instruction(instruction: object) -> str | None:
    """What the model is told to look for, or None; raises InputError for anything but a text, and for an empty one."""
    if instruction is None or (isinstance(instruction, str) and instruction.strip()):
        return instruction
    raise InputError(
        "The instruction is empty" if isinstance(instruction, str) else "The instruction is not a text",
        received=shown(instruction),
        allowed="some text, or None for the model's own",
        fix="Leave it out.",
    )


def blocks_of(documents: Iterable[str]) -> Iterator[list[str]]:
    """The documents, some at a time.

    Raises:
        InputError: a text instead of several, no document, an empty one, or something that is no text.
    """
    if isinstance(documents, str):
        raise InputError(
            "The documents are not a list",
            received="one text",
            allowed="a list of texts, or anything that gives one after the other",
            fix="Put the text into a list.",
        )
    places, start = iter(documents), 0
    while block := list(islice(places, BLOCK)):
        for number, text in enumerate(block, start=start):
            if not isinstance(text, str) or not text.strip():
                raise InputError(
                    f"Document {number} is empty" if isinstance(text, str) else f"Document {number} is not a text",
                    received=shown(text),
                    allowed="some text",
                    fix="Leave it out.",
                )
        yield block
        start += len(block)
    if start == 0:
        raise InputError(
            "There is no document", received="an empty list", allowed="one document or more", fix="Give some documents."
        )


def ranked(scores: Sequence[float], *, top: int | None) -> Ranked:
    """(index, score) of the best documents, the best first; equal scores in the order of the documents.

    Raises:
        InputError: ``top`` is less than 1.
    """
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 1):
        raise InputError(
            "So many documents cannot be returned",
            received=f"top {shown(top)}",
            allowed="1 or more, or None for all",
            fix="Correct top.",
        )
    order = range(len(scores))
    best = heapq.nsmallest(len(scores) if top is None else top, order, key=lambda index: (-scores[index], index))
    return [(index, scores[index]) for index in best]
