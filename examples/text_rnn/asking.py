"""One question to an engine, from raw text to what a reader sees: the same steps as before training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from examples.text_rnn.postprocessing import tidy_pieces
from examples.text_rnn.prepared_data import Preparation
from examples.text_rnn.vocabulary import BEGIN_ID, UNKNOWN_ID
from jisu import InputError
from jisu.networks import PAD_ID

if TYPE_CHECKING:
    from jisu import Engine, SamplingOptions

# What no answer may contain: a model that has seen rare words as `<unk>` would write it.
NEVER = dict.fromkeys((PAD_ID, UNKNOWN_ID, BEGIN_ID), -math.inf)


def continue_text(engine: Engine, text: str, preparation: Preparation, options: SamplingOptions) -> Iterator[str]:
    """The text and its continuation, piece by piece; raises InputError when no word is left of the text."""
    stream = engine.stream(_prepared(text, preparation), chat=False, options=options)

    def pieces() -> Iterator[str]:
        with stream:
            yield text.strip()
            yield from stream

    return tidy_pieces(pieces(), preparation.preprocessing.language)


def probabilities_of(engine: Engine, text: str, preparation: Preparation) -> dict[str, float]:
    """The probability of each label; raises InputError when no word is left of the text."""
    return dict(engine.classify(_prepared(text, preparation)).probabilities)


def _prepared(text: str, preparation: Preparation) -> str:
    prepared = preparation.preprocessing.prepare(text)
    if not prepared:
        raise InputError(
            "Nothing is left of the text",
            received=repr(text),
            allowed="a text with at least one word that preprocessing keeps",
            fix="Write more.",
        )
    return prepared
