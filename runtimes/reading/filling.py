"""Numbers of tokens -> the most likely words at the masked places of a text, as in transformers' pipeline for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jisu.exporter.contract.backend import Logits
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.reading.classification import probabilities_of


@dataclass(frozen=True, kw_only=True)
class Filling:
    """A word for a masked place: its text, its probability, its token id, and the whole text with it."""

    word: str
    score: float
    token: int
    text: str


def check_masked(ids: Sequence[int], *, mask: int, spelled: str, number: int) -> list[int]:
    """The masked places of a text; raises InputError when there is none."""
    places = [index for index, token in enumerate(ids) if token == mask]
    if not places:
        raise InputError(
            f"Nothing is masked in text {number}",
            received=f"no {spelled} among {len(ids)} tokens",
            allowed=f"{spelled} once or more in each text",
            fix=f"Write {spelled} where a word is to be found.",
        )
    return places


def check_count(top_k: object, *, most: int, name: str) -> int:
    """How many results are wanted; raises InputError for none and for more than there can be."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= most:
        raise InputError(
            f"The option {name} is out of range",
            received=shown(top_k),
            allowed=f"a whole number from 1 to {most}",
            fix=f"Correct {name}.",
        )
    return top_k


def fillings_of(
    ids: Sequence[int], logits: Logits, places: Sequence[int], *, top_k: int, codec: TextCodec
) -> list[list[Filling]]:
    """The likeliest words of each masked place, the best first.

    Args:
        ids: of the text, special tokens included.
        logits: float32 [T, V].
        places: indices of the masked tokens.
    """
    filled = []
    for place in places:
        probabilities = probabilities_of(logits[place])
        part = np.argpartition(-probabilities, top_k - 1)[:top_k]
        best = part[np.lexsort((part, -probabilities[part]))]
        filled.append(
            [
                Filling(
                    word=codec.decode([int(token)], special_tokens=True),
                    score=float(probabilities[token]),
                    token=int(token),
                    # With another place masked its mark has to stay.
                    text=codec.decode(
                        [*ids[:place], int(token), *ids[place + 1 :]],
                        special_tokens=len(places) > 1,
                    ),
                )
                for token in best
            ]
        )
    return filled
