"""Presents a model that says something about a source text as one that continues sequences, for the gate's checks.

The first token of every sequence chooses one of several sources by its number, and stands where the decoder's start
token does. Both sides are wrapped alike, so that every check of sequences, batches and caches holds for such a model as
it is; rows of one batch are about sources of unequal lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.gate.domain_tokens import Judged, TokenIds
from jisu.exporter.gate.prompts import PREFILL_LENGTHS, GatePrompts

if TYPE_CHECKING:
    import numpy.typing as npt

    from jisu.exporter.contract.backend import EncoderBackend, Logits, State, WantedLogits
    from jisu.exporter.gate.reference import TorchReference

# Tokens that are said of each source whose length is checked.
_SAID = 8


class ConditionedBackend:
    """A `Backend` whose sequences begin with the number of their source."""

    def __init__(self, backend: EncoderBackend, sources: Sequence[Any], *, start: int) -> None:
        self.name = backend.name
        self.vocab_size = backend.vocab_size
        self.max_positions = backend.max_positions
        self._backend = backend
        self._sources = sources
        self._start = start

    def new_state(self, batch: int, capacity: int) -> ConditionedState:
        return ConditionedState(batch, capacity)

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        assert isinstance(state, ConditionedState), "a state belongs to the backend that made it"
        if state.inner is None:
            sources = [self._sources[number] for number in token_ids[:, 0]]
            state.inner = self._backend.encode([_as_read(source) for source in sources], capacity=state.capacity)
            token_ids = started(token_ids, self._start)
        return self._backend.forward(token_ids, state.inner, new_lengths=new_lengths, logits=logits)

    def close(self) -> None:
        self._backend.close()


class ConditionedState:
    """A `State` whose sources are encoded when its first tokens say which they are."""

    def __init__(self, batch: int, capacity: int) -> None:
        self.inner: State | None = None
        self.capacity = capacity
        self._batch = batch

    @property
    def lengths(self) -> TokenIds:
        return np.zeros(self._batch, np.int64) if self.inner is None else self.inner.lengths

    def rewind(self, lengths: TokenIds) -> None:
        assert self.inner is not None and lengths.min() > 0, "a row without tokens has no source"
        self.inner.rewind(lengths)

    def reorder(self, rows: TokenIds) -> None:
        assert self.inner is not None, "rows without tokens have no sources"
        self.inner.reorder(rows)


class ConditionedReference:
    """`Reference` of such sequences: the source model's own forward over source and answer, without a cache."""

    def __init__(self, reference: TorchReference, sources: Sequence[TokenIds], *, start: int) -> None:
        self.vocab_size = reference.vocab_size
        self.description = reference.description
        self._reference = reference
        self._sources = sources
        self._start = start

    def logits(self, token_ids: TokenIds, positions: slice | None = None) -> npt.NDArray[np.float32]:
        import torch

        source = self._sources[int(token_ids[0])][None]
        answer = started(token_ids[None], self._start)
        with self._reference.stock() as module:
            output: Any = module(
                input_ids=torch.from_numpy(source),
                attention_mask=torch.ones(source.shape, dtype=torch.int64),
                decoder_input_ids=torch.from_numpy(answer),
                use_cache=False,
            )
            logits: npt.NDArray[np.float32] = output.logits[0, positions or slice(None)].float().numpy()
        return logits


def _as_read(source: Any) -> Any:
    """Token ids as a list; recordings as they are."""
    return source.tolist() if isinstance(source, np.ndarray) else source


def started(token_ids: TokenIds, start: int) -> TokenIds:
    """[B, T] whose first tokens choose sources -> what the decoder is fed."""
    fed = np.array(token_ids, np.int64)
    fed[:, 0] = start
    return fed


def condition(prompts: GatePrompts) -> tuple[GatePrompts, tuple[TokenIds, ...]]:
    """Turn a choice of sequences into one of answers about sources, and make the sources.

    The sources are beginnings of the long sequence, of the lengths whose prefill is checked too, and a text that fills
    the model's range; the three short rows; and the windows, each of which is then judged as an answer about itself.
    """
    lengths = dict.fromkeys((*(one for one in PREFILL_LENGTHS if one < len(prompts.sequence)), len(prompts.sequence)))
    sources = [prompts.sequence[:length] for length in lengths]
    sources += [] if prompts.far is None else [prompts.far]
    first_row = len(sources)
    sources += [*prompts.rows]
    first_window = len(sources)
    sources += [*prompts.judged.windows]
    said = prompts.sequence[:_SAID]
    changed = replace(
        prompts,
        sequence=numbered(prompts.sequence, first_row),
        rows=tuple(numbered(row, first_row + index) for index, row in enumerate(prompts.rows)),
        # Nothing said yet, and something said already.
        greedy=(
            *(np.array([first_row + index], np.int64) for index in range(2)),
            numbered(prompts.greedy[-1], first_row),
        ),
        judged=numbered_windows(prompts.judged, count(first_window)),
        further=tuple(
            (f"source-{len(source)}", numbered(said, index)) for index, source in enumerate(sources[:first_row])
        ),
        far=None if prompts.far is None else numbered(prompts.far, first_row),
        text=f"about sources: {prompts.text}",
    )
    return changed, tuple(sources)


def numbered_windows(judged: Judged, sources: Iterator[int]) -> Judged:
    """The same windows, each about the next of the sources' numbers."""
    domains = [
        replace(domain, windows=tuple(numbered(window, next(sources)) for window in domain.windows))
        for domain in judged.domains
    ]
    return replace(judged, domains=tuple(domains))


def numbered(sequence: TokenIds, source: int) -> TokenIds:
    """The same sequence, about a source."""
    changed = np.array(sequence, np.int64)
    changed[0] = source
    return changed
