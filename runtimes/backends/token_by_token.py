"""Rows of unequal lengths for a backend that reads one token of each row at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.errors import InputError

# (one token of each row [B, 1], tokens that each row holds before it [B]) -> logits [B, 1, V]
Step = Callable[[TokenIds, TokenIds], Logits]


def run_token_by_token(
    step: Step, token_ids: TokenIds, *, past: TokenIds, new: TokenIds, vocab_size: int, wants_all: bool, recurrent: bool
) -> Logits:
    """All rows together; one that has no more tokens gets its last one again, at the same place.

    Args:
        step: reads the tokens of one column.
        token_ids: int64 [B, T], of which each row has ``new`` [B]; its state holds ``past`` [B] already.
        wants_all: keep the logits of every token, not those of each row's last one.
        recurrent: the state is no buffer, and would see the repeated token.

    Returns:
        float32 [B, T or 1, V].

    Raises:
        InputError: rows of unequal lengths and a recurrent state.
    """
    if recurrent and (new != new[0]).any():
        raise InputError(
            "Rows of unequal lengths cannot run together through a recurrent state on the GPU",
            received=f"{new.tolist()} new tokens",
            allowed="as many in each row",
            fix="Run them one after the other.",
        )
    batch, width = token_ids.shape
    scores = np.zeros((batch, width if wants_all else 1, vocab_size), np.float32)
    rows = np.arange(batch)
    for column in range(int(new.max())):
        places = np.minimum(column, new - 1)
        one = np.ascontiguousarray(token_ids[rows, places][:, None])
        scores[:, column if wants_all else 0] = step(one, past + places)[:, 0]
    return scores
