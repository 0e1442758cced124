"""What a backend has to do for a model that reads whole texts: their token ids in, numbers out. There is no state.

Like `exporter.contract.backend`, it knows nothing of text, labels or vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jisu.exporter.contract.backend import Logits

Rows = Sequence[Sequence[int]]


class OnePassBackend(Protocol):
    """Runs one model that reads a whole text at once.

    ``columns`` counts the numbers of a row: labels, words, or the dimensions of a vector. ``per_token`` tells whether
    there is a row of them for each token, or one for each text. ``takes_unequal`` tells whether the texts of one call
    may differ in length: a model that takes no mask of padding takes texts of one length only. ``takes_types`` tells
    whether it has to know which tokens are of the first text of a pair and which of the second.
    """

    name: str
    columns: int
    per_token: bool
    vocab_size: int
    max_positions: int | None
    takes_unequal: bool
    takes_types: bool

    def outputs(self, rows: Rows, types: Rows | None = None) -> Logits:
        """What the model gives for each text; a text never depends on the others.

        Args:
            rows: token ids of each text.
            types: 0 or 1 for each of these tokens; zeros when None, and of no meaning where ``takes_types`` is False.

        Returns:
            float32 [B, columns], or [B, T, columns] where rows are ``per_token``: there, what lies behind a text's own
            tokens means nothing.
        """
        ...

    def close(self) -> None:
        """Release everything; safe to call twice."""
        ...
