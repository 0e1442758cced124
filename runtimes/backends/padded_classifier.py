"""What classifiers of all backends share: rows are checked and padded, and whoever runs them is handed in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.classifier_backend import ClassifierBackend, Rows
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import ATTENTION_MASK
from jisu.runtimes.backends.row_lengths import closed
from jisu.runtimes.backends.token_ids import check_ids

# (token ids, mask of ones for tokens and zeros for padding), int64 [B, T] each -> logits [B, labels].
RunRows = Callable[[TokenIds, TokenIds], Logits]


class PaddedClassifier:
    """A classifier, see `exporter.contract.classifier_backend.ClassifierBackend`.

    Args:
        run: gives logits of any float type; it is dropped when this is closed.
        longest: tokens of a row; the model's positions when None.
        release: gives back what was held besides.
    """

    def __init__(
        self,
        name: str,
        artifact: Artifact,
        run: RunRows,
        *,
        longest: int | None = None,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        facts = artifact.manifest.model
        self.name = name
        self.labels = len(facts.labels)
        self.vocab_size = facts.vocab_size
        limits = [limit for limit in (facts.max_positions, longest) if limit is not None]
        self.max_positions = min(limits, default=None)
        self.takes_unequal = artifact.manifest.signature.has_input(ATTENTION_MASK)
        self._pad = facts.pad or 0
        self._run: RunRows | None = run
        self._release = release

    def logits(self, rows: Rows) -> Logits:
        if self._run is None:
            raise closed(self.name)
        ids, mask = padded_rows(rows, self, pad=self._pad)
        return self._run(ids, mask).astype(np.float32, copy=False)

    def close(self) -> None:
        if self._run is not None:
            self._run = None
            self._release()


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
    check_ids(rows, backend.vocab_size)
    ids = np.full((len(rows), max(lengths)), pad, np.int64)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    for row, (tokens, length) in enumerate(zip(rows, lengths, strict=True)):
        ids[row, :length] = tokens
    return ids, mask
