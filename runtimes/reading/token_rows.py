"""Token ids of texts -> the numbers of each token, one text after the other, on any backend that gives such rows.

The numbers of a large vocabulary take much memory: those of a call are let go before the next one is made.
"""

from __future__ import annotations

from collections.abc import Iterator

from jisu.exporter.contract.backend import Logits
from jisu.exporter.contract.one_pass_backend import OnePassBackend, Rows
from jisu.runtimes.reading.row_groups import most_tokens, row_groups


def token_rows(backend: OnePassBackend, rows: Rows, types: Rows | None = None) -> Iterator[tuple[int, Logits]]:
    """(index, float32 [T, columns]) of every row, not in their order.

    Raises:
        InputError: an empty or a too long row, or an unknown token id.
    """
    lengths = [len(row) for row in rows]
    for group in row_groups(lengths, equal=not backend.takes_unequal, tokens=most_tokens(backend.columns)):
        of_group = None if types is None else [types[index] for index in group]
        numbers = backend.outputs([rows[index] for index in group], of_group)
        for place, index in enumerate(group):
            yield index, numbers[place, : lengths[index]]
