"""What a backend of a model that hears has to do, besides what its decoder does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import EncoderBackend

Samples = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What an encoder made of recordings of one length: its tensors by name, a row for each recording first."""

    tensors: Mapping[str, npt.NDArray[Any]]


class SpeechBackend(Protocol):
    """Runs one model that hears."""

    name: str
    vocab_size: int

    def features(self, samples: Samples) -> Features:
        """What the model reads of one recording: float32 [samples] -> [1, ...]; at least 0.1 s of it."""
        ...

    def close(self) -> None:
        """Release everything; safe to call twice."""
        ...


@runtime_checkable
class FrameBackend(SpeechBackend, Protocol):
    """Labels each frame of a recording."""

    def frame_logits(self, features: Sequence[Features]) -> npt.NDArray[np.float32]:
        """Logits of recordings of one length: features [1, ...] of each -> float32 [B, frames, labels]."""
        ...


@runtime_checkable
class TranscribingBackend(SpeechBackend, EncoderBackend, Protocol):
    """Says what it hears token by token; the sources of `encode` are what `listen` gave, all of one length."""

    def listen(self, features: Features) -> Heard:
        """Run the encoder over features of recordings of one length, float32 [B, ...]."""
        ...
