"""A model that turns a text, or sound, into a text: its encoder runs once for each batch of sources, then its decoder.

Knows neither library nor device: both halves are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from jisu.exporter.contract.artifact import ModelFacts
from jisu.exporter.contract.backend import Backend, Logits, State, TokenIds, WantedLogits
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.row_lengths import check_size, closed, padded_sources


class Encode(Protocol):
    """Reads sources: of texts int64 ids [B, source], and a mask of ones for tokens with zeros for padding behind them;
    of sound the features of recordings, and no mask.

    Returns a state of ``copies`` rows for each source, in which nothing has been said yet.
    """

    def __call__(self, ids: Any, mask: Any, *, capacity: int, copies: int) -> State: ...


Stack = Callable[[Sequence[Any]], tuple[Any, Any]]
"""Sources -> the arrays of one batch, and its mask or None."""


class EncoderDecoderBackend:
    """Runs an encoder and then its decoder, as any other backend; see `exporter.contract.backend.EncoderBackend`.

    Args:
        decoder: runs the decoder's graph; it is closed with this.
        encode: runs the encoder's.
        longest: tokens that a source may have; None for any number.
        longer: how longer sources become possible, where it is not the model that has no more positions.
        stack: makes one batch of sources that are no texts.
        close: gives back what the encoder holds.
    """

    def __init__(
        self,
        decoder: Backend,
        encode: Encode,
        facts: ModelFacts,
        *,
        longest: int | None,
        longer: str | None = None,
        stack: Stack | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = decoder.name
        self.vocab_size = decoder.vocab_size
        self.max_positions = decoder.max_positions
        self.max_source_positions = longest
        # Of the answers; see `runtimes.generation.text_run.new_token_limit`.
        self.longer: str | None = getattr(decoder, "longer", None)
        self._decoder = decoder
        self._encode: Encode | None = encode
        self._close = close
        self._stack = stack or partial(
            padded_sources,
            padding=facts.pad or 0,
            vocab_size=self.vocab_size,
            longest=longest,
            longer=longer,
        )

    def new_state(self, batch: int, capacity: int) -> State:
        raise InputError(
            "This model needs a source, and the state has none",
            received="a new state",
            allowed="a state of encoded sources",
            fix="Make the state with the backend's encode, from the token ids or the features of the source.",
        )

    def encode(self, sources: Sequence[Any], *, capacity: int, copies: int = 1) -> State:
        ids, mask = self._stack(sources)
        check_size(len(sources) * copies, capacity)
        if self._encode is None:
            raise closed(self.name)
        return self._encode(ids, mask, capacity=capacity, copies=copies)

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        return self._decoder.forward(token_ids, state, new_lengths=new_lengths, logits=logits)

    def close(self) -> None:
        self._encode = None
        self._close()
        self._decoder.close()
