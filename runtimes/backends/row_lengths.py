"""Row lengths: their counters, and the checks that every backend makes before it touches its memory.

That all backends use these is why all of them refuse the same calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from weakref import WeakSet

import numpy as np

from jisu.exporter.contract.backend import TokenIds
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import prompt_name
from jisu.runtimes.backends.token_ids import check_id_array, check_ids

_State = TypeVar("_State", bound="RowLengths")


class States:
    """The states of a backend that somebody still holds: their memory goes with the backend's."""

    def __init__(self) -> None:
        self._states: WeakSet[RowLengths] = WeakSet()

    def add(self, state: _State) -> _State:
        """Remember a new one, and return it."""
        self._states.add(state)
        return state

    def release(self) -> None:
        """Give the memory of all of them back."""
        for state in list(self._states):
            state.release()


class RowLengths:
    """How far each row of a state has come, and how far it may go: the part of a state that all backends share.

    Args:
        copies: rows for each source, one after the other, where an encoder read some.
    """

    def __init__(self, *, batch: int, capacity: int, copies: int = 1) -> None:
        self._capacity = capacity
        self._lengths: TokenIds = np.zeros(batch, np.int64)
        # Which source each row is about: rows of one source may change places without its tensors being moved.
        self._sources = np.arange(batch) // copies

    @property
    def lengths(self) -> TokenIds:
        lengths: TokenIds = self._lengths.copy()
        return lengths

    @property
    def capacity(self) -> int:
        return self._capacity

    def release(self) -> None:
        """Give the memory back: the backend is closed, and nothing can be done with this any more."""

    def advance(self, new_lengths: TokenIds) -> None:
        """Count the tokens of a call that has written its results; int64 [B]."""
        self._lengths += new_lengths

    def place(self, lengths: TokenIds) -> None:
        """Count rows as so long, int64 [B], whose tensors somebody else has filled."""
        if lengths.shape != self._lengths.shape or (lengths < 0).any() or (lengths > self._capacity).any():
            raise InputError(
                "The state's lengths are out of range",
                received=lengths.tolist(),
                allowed=f"{len(self._lengths)} numbers from 0 to {self._capacity}",
                fix="Make the state with a larger capacity.",
            )
        self._lengths[:] = lengths

    def follow(self, rows: TokenIds) -> bool:
        """Let row i be counted as row ``rows[i]``, int64 [B]; returns whether all are about the sources they were."""
        same = bool((self._sources[rows] == self._sources).all())
        self._sources = self._sources[rows]
        self._lengths[:] = self._lengths[rows]
        return same


def check_size(batch: int, capacity: int) -> None:
    """Raise InputError for a state without rows or without room."""
    if batch < 1 or capacity < 1:
        raise InputError(
            "A state needs at least one row and room for one token",
            received=f"batch {batch}, capacity {capacity}",
            allowed="1 or more of each",
            fix="Give at least one prompt.",
        )


def padded_sources(
    sources: Sequence[Sequence[int]], *, padding: int, vocab_size: int, longest: int | None, longer: str | None = None
) -> tuple[TokenIds, TokenIds]:
    """Source texts as an encoder takes them: token ids padded on the right, and ones where there are tokens.

    Args:
        sources: token ids of each text.
        padding: what to pad with.
        vocab_size: token ids are 0..vocab_size - 1.
        longest: tokens that the encoder has positions for; None for any number.
        longer: how to get more of them, where it is not the model that has no more.

    Returns:
        Both int64 [B, source].

    Raises:
        InputError: no source, an empty one, one that is too long, or an unknown token id.
    """
    lengths = [len(source) for source in sources]
    owner = "plan" if longer else "model"
    too_long = f"too long for this {owner} to read"
    for row, length in enumerate(lengths):
        if length < 1 or (longest is not None and length > longest):
            raise InputError(
                f"{prompt_name(row, len(lengths))} is {'empty' if length < 1 else too_long}",
                received=f"{length} tokens",
                allowed="at least 1 token" if longest is None else f"1 to {longest} tokens",
                fix="Write some text." if length < 1 else f"Shorten it, or {longer or 'give it in parts'}.",
            )
    if not lengths:
        raise InputError(
            "There is no source text",
            received="an empty list",
            allowed="one or more",
            fix="Give a text.",
        )
    ids = np.full((len(sources), max(lengths)), padding, np.int64)
    check_ids(sources, vocab_size)
    for row, source in enumerate(sources):
        ids[row, : len(source)] = source
    return ids, (np.arange(ids.shape[1]) < np.array(lengths)[:, None]).astype(np.int64)


def check_call(
    token_ids: TokenIds, new_lengths: TokenIds | None, *, lengths: TokenIds, capacity: int, vocab_size: int
) -> TokenIds:
    """Check one forward call and return its new lengths, int64 [B].

    Args:
        token_ids: int64 [B, T], T at least 1.
        new_lengths: int64 [B], each 1..T, or None for T everywhere.
        lengths: int64 [B], tokens already in the state.
        capacity: tokens that each row has room for.
        vocab_size: token ids are 0..vocab_size - 1.

    Raises:
        InputError: shapes that do not belong together, an unknown token id, or no room left.
    """
    batch = len(lengths)
    if token_ids.ndim != 2 or token_ids.shape[0] != batch or token_ids.shape[1] == 0:
        raise InputError(
            "The token ids do not fit the state",
            received=f"shape {token_ids.shape}",
            allowed=f"[{batch}, T] with T at least 1",
            fix="Give one row of tokens for each row of the state.",
        )
    width = token_ids.shape[1]
    if new_lengths is None:
        new_lengths = np.full(batch, width, np.int64)
    elif new_lengths.shape != (batch,) or new_lengths.min() < 1 or new_lengths.max() > width:
        raise InputError(
            "The new lengths do not fit the token ids",
            received=new_lengths.tolist(),
            allowed=f"{batch} numbers between 1 and {width}",
            fix="Count each row's own new tokens.",
        )
    check_id_array(token_ids, vocab_size)
    needed = int((lengths + new_lengths).max())
    if needed > capacity:
        raise InputError(
            "The state has no room for these tokens",
            received=f"{needed} tokens in one row",
            allowed=f"at most {capacity}",
            fix="Make the state with a larger capacity.",
        )
    return new_lengths


def check_rewind(lengths: TokenIds, *, current: TokenIds, recurrent: bool) -> None:
    """Raise InputError unless each length is one that a state at ``current`` can go back to; both int64 [B]."""
    if lengths.shape != current.shape or (lengths < 0).any() or (lengths > current).any():
        raise InputError(
            "The state cannot be rewound to these lengths",
            received=lengths.tolist(),
            allowed=f"one number per row, from 0 to {current.tolist()}",
            fix="Rewind to a length that the row has already had.",
        )
    if recurrent and not ((lengths == current) | (lengths == 0)).all():
        raise InputError(
            "A recurrent state cannot be rewound to the middle: it does not keep what it was",
            received=lengths.tolist(),
            allowed=f"0 or the current length of each row, {current.tolist()}",
            fix="Rewind to 0 and run the tokens again.",
        )


def check_reorder(rows: TokenIds, *, batch: int) -> None:
    """Raise InputError unless ``rows``, int64 [B], names an existing row for each row."""
    if rows.shape != (batch,) or (rows < 0).any() or (rows >= batch).any():
        raise InputError(
            "The state cannot be reordered to these rows",
            received=rows.tolist(),
            allowed=f"{batch} numbers between 0 and {batch - 1}",
            fix="Name one existing row for each row.",
        )


def check_taken_rows(rows: TokenIds, *, lengths: TokenIds, batch: int, capacity: int) -> None:
    """Raise InputError unless rows of these ``lengths`` can take the places ``rows`` of a state; both int64 [rows]."""
    if rows.shape != lengths.shape or (rows < 0).any() or (rows >= batch).any() or len(set(rows.tolist())) < len(rows):
        raise InputError(
            "The state cannot take these rows",
            received=rows.tolist(),
            allowed=f"{len(lengths)} different numbers between 0 and {batch - 1}",
            fix="Name one place for each row that comes.",
        )
    if int(lengths.max()) > capacity:
        raise InputError(
            "The state has no room for these rows",
            received=f"{int(lengths.max())} tokens in one row",
            allowed=f"at most {capacity}",
            fix="Make the state with a larger capacity.",
        )


def closed(backend: str) -> InputError:
    """The error of a call to a backend after its end."""
    return InputError(
        f"The backend {backend} is closed",
        received="a call after close",
        allowed="calls before close",
        fix="Load the artifact again.",
    )
