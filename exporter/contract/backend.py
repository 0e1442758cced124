"""What a backend has to do: hold a model's state and run it over new tokens. Small enough to write in an afternoon.

A backend knows nothing of text, sampling or stopping; `runtimes.generation.token_loop` knows nothing of devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
WantedLogits = Literal["last", "all"]


class State(Protocol):
    """What a batch of sequences has left behind in a backend, in memory that belongs to the backend."""

    @property
    def lengths(self) -> TokenIds:
        """Tokens seen so far by each row, int64 [B]."""
        ...

    @property
    def capacity(self) -> int:
        """Tokens that each row has room for."""
        ...

    def rewind(self, lengths: TokenIds) -> None:
        """Forget each row's tokens from ``lengths[row]`` on; int64 [B], each between 0 and the row's length."""
        ...

    def reorder(self, rows: TokenIds) -> None:
        """Let row ``i`` continue what row ``rows[i]`` was; int64 [B], rows may repeat."""
        ...


class Backend(Protocol):
    """Runs one model."""

    name: str
    vocab_size: int
    max_positions: int | None

    def new_state(self, batch: int, capacity: int) -> State:
        """An empty state for ``batch`` rows of at most ``capacity`` tokens."""
        ...

    def forward(
        self,
        token_ids: TokenIds,
        state: State,
        *,
        new_lengths: TokenIds | None = None,
        logits: WantedLogits = "last",
    ) -> Logits:
        """Append tokens to the state and return next-token logits.

        Args:
            token_ids: int64 [B, T]; rows shorter than T are padded on the right with any valid token id.
            state: advanced in place by each row's new length.
            new_lengths: int64 [B], each 1..T; None when every row has T new tokens.
            logits: ``"last"`` for each row's own last new token, ``"all"`` for every position (padding rows hold
                arbitrary finite numbers).

        Returns:
            float32 [B, 1, V] or [B, T, V]. The caller may keep it until the next call.
        """
        ...

    def close(self) -> None:
        """Release everything; safe to call twice."""
        ...


@runtime_checkable
class RefillableState(State, Protocol):
    """A state whose rows can be given to others, so that a batch takes up the next prompt when one is through."""

    def take_rows(self, rows: TokenIds, other: State) -> None:
        """Let row ``rows[i]`` become what row ``i`` of another state of the same backend is; int64 [rows of other].

        Each of them must have at most this state's capacity. The other state is not changed.
        """
        ...


@runtime_checkable
class TopBackend(Backend, Protocol):
    """Has its logits on a device, from which a few of them are fetched faster than all."""

    def forward_top(self, token_ids: TokenIds, state: State, *, count: int) -> Logits:
        """As `forward` for one new token in each row, int64 [B, 1].

        Returns:
            float32 [B, 1, V], in which all but the ``count`` largest logits of each row may be -inf (among equal ones
            the lower ids stay).
        """
        ...


@runtime_checkable
class EncoderBackend(Backend, Protocol):
    """Runs a model that reads a source text once and then says another: `new_state` is `encode` there."""

    max_source_positions: int | None

    def encode(self, sources: Sequence[Any], *, capacity: int, copies: int = 1) -> State:
        """A state in which nothing has been said of these sources yet.

        Args:
            sources: token ids of each text, of any lengths; of a model that hears what its `listen` gave.
            capacity: tokens of the answer that each row has room for.
            copies: rows for each source, one after the other; the source itself is read once.

        Raises:
            InputError: an empty source, one that is longer than the model's positions, or an unknown token id.
        """
        ...
