"""A prompt with images in it, as a backend reads it: token ids, rows of image features, and which token reads which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import Backend, State


@dataclass(frozen=True, kw_only=True)
class ImagePrompt:
    """One row of a batch.

    Attributes:
        token_ids: of the prompt, with an image token for each row of features.
        features: float32 [rows, features], of all its images in their order.
        index: int64 [tokens]; 0 for a token of text, n for row n - 1 of the features.
        shifts: int64 [3, tokens], of the positions on each axis from the token's place; None where all are 0.
        shift_after: of all tokens behind the prompt.
    """

    token_ids: list[int]
    features: npt.NDArray[np.float32]
    index: npt.NDArray[np.int64]
    shifts: npt.NDArray[np.int64] | None = None
    shift_after: int = 0


@runtime_checkable
class ImageBackend(Backend, Protocol):
    """Runs a model that reads images beside texts; without images it is any other backend."""

    def read_image(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Rows of features of one image, float32 [rows, features], of the arrays that its vision graph reads."""
        ...

    def attach_images(self, state: State, prompts: Sequence[ImagePrompt]) -> None:
        """Let each row of an empty state read the images of its prompt when the prompt's tokens are read."""
        ...
