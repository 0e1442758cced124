"""What an encoder reads: a text's token ids with their mask, or the features of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, SOURCE

if TYPE_CHECKING:
    from jisu.exporter.sources.audio import AudioSource

FRAMES = "frames"
# Rows of a recording are as long as each other, and have no padding: one window, or one recording at a time.
_SECONDS = 1.3


@dataclass(frozen=True, kw_only=True)
class EncoderInput:
    """The name and dims of what is read, and an example of it.

    Attributes:
        dims: of one batch, with letters for those that differ.
        example: of two rows.
        masked: whether a mask of ones and zeros, int64 [B, source], tells tokens from padding.
    """

    name: str
    dims: tuple[int | str, ...]
    example: Tensor
    masked: bool

    @property
    def shapes(self) -> dict[int, Any]:
        """The axes that torch's exporter has to keep open."""
        # Of the positions that convolutions leave of frames torch proves too little; that none is fixed is seen later.
        return {
            axis: torch.export.Dim.AUTO if dim == FRAMES else torch.export.Dim(dim, min=1)
            for axis, dim in enumerate(self.dims)
            if isinstance(dim, str)
        }

    def arguments(self, read: Tensor, mask: Tensor | None) -> Mapping[str, Tensor]:
        """What the model is called with."""
        return {self.name: read} if mask is None else {self.name: read, ATTENTION_MASK: mask}


def text_input() -> EncoderInput:
    """Two short texts."""
    return EncoderInput(name=INPUT_IDS, dims=("B", SOURCE), example=torch.tensor([[0, 1], [0, 1]]), masked=True)


def audio_input(audio: AudioSource) -> EncoderInput:
    """Features of silence, which every model has some of."""
    import numpy as np

    settings = audio.settings
    samples = settings.window or int(_SECONDS * settings.sampling_rate)
    features = torch.from_numpy(audio.features(np.zeros(samples, np.float32)))
    return EncoderInput(
        name=settings.input_name,
        dims=("B", *(FRAMES if dim is None else dim for dim in settings.dims)),
        example=features.repeat(2, *[1] * (features.dim() - 1)),
        masked=False,
    )
