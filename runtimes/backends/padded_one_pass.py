"""What models that read whole texts share on all backends: rows are checked and padded, who runs them is handed in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.one_pass_backend import OnePassBackend, Rows
from jisu.exporter.contract.signature import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    SENTENCE_EMBEDDING,
    TOKEN_TYPE_IDS,
    TensorSpec,
)
from jisu.runtimes.backends.row_lengths import closed
from jisu.runtimes.backends.token_ids import check_ids

# Arrays int64 [B, T] by the name of the graph's input -> numbers [B, columns] or [B, T, columns].
RunRows = Callable[[dict[str, TokenIds]], Logits]


class PaddedOnePass:
    """A model that reads whole texts, see `exporter.contract.one_pass_backend.OnePassBackend`.

    Args:
        run: gives numbers of any float type; it is fed the inputs that the manifest's signature lists, and dropped when
            this is closed.
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
        facts, signature = artifact.manifest.model, artifact.manifest.signature
        output = output_of(artifact)
        self.name = name
        self.columns = int(output.dims[-1])
        self.per_token = len(output.dims) > 2
        self.vocab_size = facts.vocab_size
        limits = [limit for limit in (facts.max_positions, longest) if limit is not None]
        self.max_positions = min(limits, default=None)
        self.takes_unequal = signature.has_input(ATTENTION_MASK)
        self.takes_types = signature.has_input(TOKEN_TYPE_IDS)
        self._inputs = [spec.name for spec in signature.inputs]
        self._pad = facts.pad or 0
        self._run: RunRows | None = run
        self._release = release

    def outputs(self, rows: Rows, types: Rows | None = None) -> Logits:
        if self._run is None:
            raise closed(self.name)
        arrays = padded_rows(rows, self, pad=self._pad, types=types)
        outputs: Logits = self._run({name: arrays[name] for name in self._inputs})
        return outputs.astype(np.float32, copy=False)

    def close(self) -> None:
        if self._run is not None:
            self._run = None
            self._release()


def output_of(artifact: Artifact) -> TensorSpec:
    """The one output that answers: the vectors of an embedding model, the logits of any other."""
    outputs = {spec.name: spec for spec in artifact.manifest.signature.outputs}
    return outputs[SENTENCE_EMBEDDING if SENTENCE_EMBEDDING in outputs else LOGITS]


def padded_rows(rows: Rows, backend: OnePassBackend, *, pad: int, types: Rows | None = None) -> dict[str, TokenIds]:
    """Token ids padded on the right, 1 for each token and 0 for padding, and types; int64 [B, T] by the input's name.

    Raises:
        InputError: no row, an empty or a too long one, an unknown token id, or unequal rows where they cannot be.
    """
    lengths = [len(row) for row in rows]
    if not lengths or min(lengths) == 0:
        raise InputError(
            "There is nothing to read",
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
            "The model does not take an attention mask, so that texts cannot be padded",
            received=f"texts of {min(lengths)} to {max(lengths)} tokens in one call",
            allowed="texts of one length",
            fix="Call it once for each length.",
        )
    check_ids(rows, backend.vocab_size)
    return {
        INPUT_IDS: _padded(rows, lengths, pad),
        ATTENTION_MASK: (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64),
        TOKEN_TYPE_IDS: _padded(types or [[0] * length for length in lengths], lengths, 0),
    }


def _padded(rows: Rows, lengths: list[int], value: int) -> TokenIds:
    padded = np.full((len(rows), max(lengths)), value, np.int64)
    for row, (tokens, length) in enumerate(zip(rows, lengths, strict=True)):
        padded[row, :length] = tokens
    return padded
