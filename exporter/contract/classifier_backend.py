"""What a backend has to do for a classifier: whole texts in, one row of logits for each out. There is no state.

Like `exporter.contract.backend`, it knows nothing of text, labels or probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jisu.exporter.contract.backend import Logits

Rows = Sequence[Sequence[int]]


class ClassifierBackend(Protocol):
    """Runs one classifier.

    ``labels`` counts the columns of its logits. ``takes_unequal`` tells whether rows of one call may differ in length:
    a model that takes no mask of padding takes rows of one length only.
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
