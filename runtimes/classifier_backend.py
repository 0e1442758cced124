"""What a backend has to do for a classifier: whole texts in, one row of logits for each out. There is no state.

Like `runtimes.backend`, it knows nothing of text, labels or probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from exporter.errors import InputError
from runtimes.backend import Logits, TokenIds

Rows = Sequence[Sequence[int]]


class ClassifierBackend(Protocol):
    """Runs one classifier.

    ``labels`` counts the columns of its logits. ``takes_unequal`` tells whether rows of one call may differ in length:
    a model that cannot be told what is padding takes rows of one length only.
    """

    name: str
    labels: int
    vocab_size: int
    max_positions: int | None
    takes_unequal: bool

    def logits(self, rows: Rows) -> Logits:
        """Logits of each row of token ids, float32 [B, labels]; a row never depends on the others."""
        ...

    def close(self) -> None:
        """Release everything; safe to call twice."""
        ...


def padded_rows(rows: Rows, backend: ClassifierBackend, *, pad: int) -> tuple[TokenIds, TokenIds]:
    """(token ids padded on the right, 1 for each token and 0 for padding), int64 [B, T] each.

    Raises:
        InputError: no row, an empty or a too long one, an unknown token id, or unequal rows where they cannot be.
    """
    lengths = [len(row) for row in rows]
    if not lengths or min(lengths) == 0:
        raise InputError(
            "There is nothing to classify",
            received="a row without tokens" if lengths else "no row",
            allowed="one token or more in each row",
            fix="Leave empty texts out.",
        )
    limit = backend.max_positions
    if limit is not None and max(lengths) > limit:
        raise InputError(
            "A text is too long for the model",
            received=f"{max(lengths)} tokens",
            allowed=f"at most {limit}",
            fix="Shorten it, or let it be cut off with truncate.",
        )
    if not backend.takes_unequal and min(lengths) != max(lengths):
        raise InputError(
            "The model does not take an attention mask, so that rows cannot be padded",
            received=f"rows of {min(lengths)} to {max(lengths)} tokens in one call",
            allowed="rows of one length",
            fix="Call it once for each length.",
        )
    ids = np.full((len(rows), max(lengths)), pad, np.int64)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    for row, (tokens, length) in enumerate(zip(rows, lengths, strict=True)):
        ids[row, :length] = tokens
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= backend.vocab_size:
        raise InputError(
            "A token id is not in the vocabulary",
            received=low if low < 0 else high,
            allowed=f"0 to {backend.vocab_size - 1}",
            fix="Use the tokenizer that belongs to this model.",
        )
    return ids, mask
