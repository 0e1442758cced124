"""Token ids that a model has: the one check, and the one error, of every function that takes some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import TokenIds
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown


def check_ids(rows: Iterable[Sequence[int]], vocab_size: int) -> None:
    """Raise InputError for an id outside 0..vocab_size - 1, however large it is."""
    for row in rows:
        if len(row) and not (min(row) >= 0 and max(row) < vocab_size):
            raise not_in_vocabulary(next(token for token in row if not 0 <= token < vocab_size), vocab_size)


def check_id_array(token_ids: TokenIds, vocab_size: int) -> None:
    """The same for an int64 array."""
    # Read without a sign a negative id is larger than any vocabulary: one look at each id instead of two.
    if token_ids.view(np.uint64).max() >= vocab_size:
        low, high = int(token_ids.min()), int(token_ids.max())
        raise not_in_vocabulary(low if low < 0 else high, vocab_size)


def id_array(token_ids: npt.ArrayLike) -> TokenIds:
    """An int64 array of the ids as they are; raises InputError for what would have to be rounded or cut."""
    try:
        ids = np.asarray(token_ids)
    except ValueError:  # rows of unequal lengths
        ids = np.empty(0, object)
    if ids.dtype == np.int64:
        return np.ascontiguousarray(ids)
    if ids.dtype.kind not in "iu" or (ids.dtype.kind == "u" and ids.size and ids.max() > np.iinfo(np.int64).max):
        raise InputError(
            "These are not token ids",
            received=shown(token_ids),
            allowed="whole numbers, in rows of one length",
            fix="Give an int64 array [rows, tokens].",
        )
    return np.ascontiguousarray(ids, np.int64)


def not_in_vocabulary(token: int, vocab_size: int) -> InputError:
    """The error for a token id that the model does not have."""
    return InputError(
        "A token id is not in the vocabulary",
        received=shown(token),
        allowed=f"0 to {vocab_size - 1}",
        fix="Use the tokenizer that belongs to this model.",
    )
