"""A backend for models without state: it keeps the tokens themselves and runs all of them again at every call.

How one run is made is the business of whoever opens it; everything else of `exporter.contract.backend.Backend` is
here once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jisu.exporter.contract.backend import Logits, State, TokenIds, WantedLogits
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.row_lengths import RowLengths, States, check_call, check_reorder, check_rewind, check_size
from jisu.runtimes.backends.token_ids import id_array

Run = Callable[[TokenIds, TokenIds], Logits]
"""``(token ids [B, S] padded on the right, wanted positions [B, K]) -> logits float32 [B, K, V]``."""


class TokenState(RowLengths):
    """The tokens of each row, int64 [B, capacity]."""

    def __init__(self, *, batch: int, capacity: int) -> None:
        super().__init__(batch=batch, capacity=capacity)
        self.tokens: TokenIds = np.zeros((batch, capacity), np.int64)

    def release(self) -> None:
        self.tokens = np.zeros((len(self.tokens), 0), np.int64)

    def rewind(self, lengths: TokenIds) -> None:
        lengths = np.asarray(lengths, np.int64)
        check_rewind(lengths, current=self._lengths, recurrent=False)
        self._lengths[:] = lengths

    def reorder(self, rows: TokenIds) -> None:
        rows = np.asarray(rows, np.int64)
        check_reorder(rows, batch=len(self._lengths))
        self.tokens = self.tokens[rows]
        self._lengths[:] = self._lengths[rows]


class PrefixBackend:
    """Runs whole sequences. Rows are padded on the right, which a model whose logits ignore later tokens never sees."""

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        vocab_size: int,
        max_positions: int | None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        self._run: Run | None = run
        self._close = close
        self._states = States()

    def new_state(self, batch: int, capacity: int) -> TokenState:
        check_size(batch, capacity)
        return self._states.add(TokenState(batch=batch, capacity=capacity))

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        assert isinstance(state, TokenState), "a state belongs to the backend that made it"
        if self._run is None:
            raise InputError(
                f"The backend {self.name} is closed",
                received="a call after close",
                allowed="calls before close",
                fix="Load the artifact again.",
            )
        token_ids = id_array(token_ids)
        past, width = state.lengths, token_ids.shape[1]
        new = check_call(token_ids, new_lengths, lengths=past, capacity=state.capacity, vocab_size=self.vocab_size)
        for row, (start, count) in enumerate(zip(past, new, strict=True)):
            state.tokens[row, start : start + count] = token_ids[row, :count]
        after = past + new
        # Padding asks for its row's last token again.
        positions = np.minimum(past[:, None] + np.arange(width), after[:, None] - 1)
        if logits == "last":
            positions = after[:, None] - 1
        longest = int(after.max())
        with catch_out_of_memory(rows=len(past), tokens=longest):
            scores = self._run(np.ascontiguousarray(state.tokens[:, :longest]), positions)
        state.advance(new)
        return scores

    def close(self) -> None:
        self._run = None
        self._close()
        self._states.release()
