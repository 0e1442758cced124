"""Word vectors from text files, as GloVe and word2vec write them, and a trainer for vectors of one's own.

A line is a word and its numbers with spaces between; word2vec puts a line with the count of both in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from examples.text_rnn.segmentation import NEEDED_FOR
from examples.text_rnn.vocabulary import SPECIALS
from jisu import InputError, MissingDependencyError

Vectors = Mapping[str, npt.NDArray[np.float32]]

_WINDOW, _NEGATIVE, _PASSES = 5, 5, 20


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a vocabulary has vectors; ``running`` counts each word as often as it occurs in the training text."""

    words: int
    with_vector: int
    running: float

    def __str__(self) -> str:
        return (
            f"{self.with_vector} of {self.words} words have a vector ({self.with_vector / self.words:.1%}), "
            f"{self.running:.1%} of the running text"
        )


def read_vectors(path: Path, words: Mapping[str, int], *, size: int | None = None) -> Vectors:
    """The vectors of these words; others are checked and dropped, so that a file of gigabytes costs no memory.

    Args:
        path: a GloVe or word2vec text file in UTF-8.
        words: words to keep.
        size: numbers per word that the model needs; None takes the file's own.

    Returns:
        word -> float32 [size]; of a word that is there twice the first vector.

    Raises:
        InputError: an unreadable file, a row with more or fewer numbers than the first, something that is no finite
            number, another size, or no vector at all.
    """
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    width: int | None = None
    rows = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                parts = line.rstrip().split(" ")
                if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
                    width = int(parts[1])
                    continue
                width = len(parts) - 1 if width is None else width
                if len(parts) - 1 != width or width < 1:
                    raise _bad_row(path, number, f"{len(parts) - 1} numbers", f"a word and {width or 1} numbers")
                if size is not None and width != size:
                    raise InputError(
                        f"The vectors in {path} have another size than the model",
                        received=f"{width} numbers per word",
                        allowed=size,
                        fix=f"Give --embedding-size {width}, or another file.",
                    )
                rows += 1
                try:
                    vector = np.array(parts[1:], np.float32)
                except ValueError as error:
                    raise _bad_row(path, number, error, "numbers") from error
                if not np.isfinite(vector).all():
                    raise _bad_row(path, number, "a number that is not finite", "finite numbers")
                if parts[0] in words:
                    vectors.setdefault(parts[0], vector)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The word vectors {path} cannot be read",
            received=getattr(error, "strerror", None) or error,
            allowed="a text file in UTF-8",
            fix="Give a GloVe or word2vec file in its text form.",
        ) from error
    if not rows:
        raise InputError(
            f"{path} has no word vectors",
            received="no rows",
            allowed="a line with a word and its numbers for each vector",
            fix="Give a GloVe or word2vec text file.",
        )
    if not vectors:
        raise InputError(
            f"{path} has no vector for any word of the vocabulary",
            received=f"{rows} other words",
            allowed="vectors in the language of the texts, with words spelled as `prepare` leaves them",
            fix="Give another file.",
        )
    return vectors


def vector_size(vectors: Vectors) -> int:
    return len(next(iter(vectors.values())))


def coverage_of(vectors: Vectors, vocabulary: Mapping[str, int], token_ids: Sequence[Sequence[int]]) -> Coverage:
    """How many words of a vocabulary, and of the training text, have a vector; special tokens do not count."""
    has_vector = {index for word, index in vocabulary.items() if word in vectors}
    running = [index for ids in token_ids for index in ids if index >= len(SPECIALS)]
    return Coverage(
        words=len(vocabulary) - len(SPECIALS),
        with_vector=len(has_vector),
        running=sum(index in has_vector for index in running) / max(len(running), 1),
    )


def train_vectors(texts: Sequence[Sequence[str]], out: Path, *, size: int, min_count: int = 1, seed: int = 0) -> int:
    """Train word2vec on the words of texts and write its text file; returns how many words got a vector.

    Skip-gram with negative sampling (Mikolov et al. 2013, Distributed representations of words and phrases and their
    compositionality, equation 4), by gensim. One thread, so that the same seed gives the same vectors.
    """
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise MissingDependencyError("gensim", extra="text", needed_for=NEEDED_FOR) from error
    if not any(len(words) > 1 for words in texts):
        raise InputError(
            "Word vectors cannot be trained",
            received="no text of two words",
            allowed="texts in which words stand beside others",
            fix="Give more text.",
        )
    model = Word2Vec(
        [list(words) for words in texts],
        vector_size=size,
        window=_WINDOW,
        min_count=min_count,
        sg=1,
        negative=_NEGATIVE,
        epochs=_PASSES,
        seed=seed,
        workers=1,
    )
    partial = out.with_name(f"{out.name}.partial")
    model.wv.save_word2vec_format(str(partial), binary=False)
    partial.replace(out)
    return len(model.wv)


def _bad_row(path: Path, number: int, received: object, allowed: str) -> InputError:
    return InputError(
        f"Line {number} of {path} is no word vector",
        received=received,
        allowed=allowed,
        fix="Repair the file; it may have been cut off or joined from two.",
    )
