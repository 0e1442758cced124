"""The source of a model that hears as a backend: its own feature extractor and its own forward, without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import Logits, TokenIds, WantedLogits
from jisu.exporter.contract.speech_backend import Features, Heard, Samples
from jisu.exporter.gate.reference import stock_attention

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source

_ENCODED = "last_hidden_state"


class SourceFrames:
    """See `exporter.contract.speech_backend.FrameBackend`."""

    name = "source"

    def __init__(self, source: Source) -> None:
        assert source.audio is not None, "a source that hears says how"
        self.vocab_size, self.max_positions = source.model.vocab_size, source.model.max_positions
        self._module: Any = source.module
        self._audio = source.audio

    def features(self, samples: Samples) -> Features:
        return self._audio.features(samples)

    def frame_logits(self, features: Sequence[Features]) -> npt.NDArray[np.float32]:
        import torch

        batch = torch.from_numpy(np.concatenate(list(features)))
        with stock_attention(self._module) as module:
            logits: npt.NDArray[np.float32] = module(**{self._audio.settings.input_name: batch}).logits.float().numpy()
        return logits

    def close(self) -> None:
        """Nothing is held besides the module."""


class SourceState:
    """What was heard, and all tokens that were said about it, int64 [B, T]."""

    def __init__(self, encoded: Any, capacity: int) -> None:
        self.encoded, self.capacity = encoded, capacity
        self.tokens: TokenIds = np.zeros((len(encoded), 0), np.int64)

    @property
    def lengths(self) -> TokenIds:
        return np.full(len(self.tokens), self.tokens.shape[1], np.int64)

    def rewind(self, lengths: TokenIds) -> None:
        """All rows are of one length here."""
        self.tokens = self.tokens[:, : int(lengths[0])]

    def reorder(self, rows: TokenIds) -> None:
        self.tokens = self.tokens[rows]


class SourceTranscriber(SourceFrames):
    """See `exporter.contract.speech_backend.TranscribingBackend`; rows of one call have as many tokens each."""

    max_source_positions = None

    def listen(self, features: Features) -> Heard:
        import torch

        with stock_attention(self._module) as module:
            encoder = module.get_encoder()
            read = encoder(**{self._audio.settings.input_name: torch.from_numpy(np.ascontiguousarray(features))})
            return Heard(tensors={_ENCODED: read[0].float().numpy()})

    def new_state(self, batch: int, capacity: int) -> SourceState:
        raise NotImplementedError("a state is about a recording: `encode` makes it")

    def encode(self, sources: Sequence[Heard], *, capacity: int, copies: int = 1) -> SourceState:
        encoded = np.concatenate([source.tensors[_ENCODED] for source in sources])
        return SourceState(np.repeat(encoded, copies, axis=0), capacity)

    def forward(
        self,
        token_ids: TokenIds,
        state: Any,
        *,
        new_lengths: TokenIds | None = None,
        logits: WantedLogits = "last",
    ) -> Logits:
        import torch

        state.tokens = np.concatenate([state.tokens, np.asarray(token_ids, np.int64)], axis=1)
        with stock_attention(self._module) as module:
            output = module(
                encoder_outputs=(torch.from_numpy(state.encoded),),
                decoder_input_ids=torch.from_numpy(state.tokens),
                use_cache=False,
            )
        rows = 1 if logits == "last" else token_ids.shape[1]
        numbers: Logits = output.logits[:, -rows:].float().numpy()
        return numbers
