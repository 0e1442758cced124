"""Token ids of texts -> vectors, on any backend for embedding models. Knows nothing of tokenizers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import EmbeddingFacts
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.exporter.contract.one_pass_backend import OnePassBackend, Rows
from jisu.runtimes.reading.row_groups import row_groups

Vectors = npt.NDArray[np.float32]


def embed_rows(backend: OnePassBackend, rows: Rows, types: Rows | None = None) -> Vectors:
    """A vector for each row of token ids, float32 [N, D]; the order is kept, whatever goes into one call.

    Args:
        types: 1 for each token that is not pooled, 0 for the others; all are pooled when None.

    Raises:
        InputError: an empty or a too long row, or an unknown token id.
    """
    vectors: Vectors = np.empty((len(rows), backend.columns), np.float32)
    for group in row_groups([len(row) for row in rows], equal=not backend.takes_unequal):
        kinds = None if types is None else [types[index] for index in group]
        vectors[group] = backend.outputs([rows[index] for index in group], kinds)
    return vectors


def shortened(vectors: Vectors, facts: EmbeddingFacts, *, dimensions: int | None, normalize: bool | None) -> Vectors:
    """The first ``dimensions`` numbers of each vector (Matryoshka embeddings), at length 1 where that is wanted.

    Args:
        vectors: float32 [N, D].
        dimensions: all of them when None.
        normalize: None gives vectors length 1 exactly when the model does, also when they were shortened.

    Raises:
        InputError: more dimensions than the model has, or none.
    """
    if dimensions is not None:
        whole = isinstance(dimensions, int) and not isinstance(dimensions, bool)
        if not whole or not 1 <= dimensions <= facts.dimensions:
            raise InputError(
                "The vectors do not have so many dimensions",
                received=shown(dimensions),
                allowed=f"1 to {facts.dimensions}",
                fix="Ask for a number of these, or leave dimensions out.",
            )
        vectors = vectors[:, :dimensions]
    cut = dimensions is not None and dimensions < facts.dimensions
    if normalize or (normalize is None and facts.normalized and cut):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return np.ascontiguousarray(vectors)


def prompt_text(facts: EmbeddingFacts, name: str | None) -> str:
    """What goes before a text: the prompt of a name, of the model's default one, or nothing.

    Raises:
        InputError: a name that the model does not have.
    """
    if name is None:
        return facts.prompts.get(facts.default_prompt or "", "")
    if name in facts.prompts:
        return facts.prompts[name]
    known = ", ".join(facts.prompts) or "none: the model has no prompts"
    raise InputError(
        "The model has no prompt of this name",
        received=shown(name),
        allowed=known,
        fix=("Choose one of these, or put" if facts.prompts else "Put") + " the words before the text yourself.",
    )
