"""A prompt with images or recordings in it, as a backend reads it: token ids, rows of features, and who reads which."""

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
        token_ids: of the prompt, with a token of an image or a recording for each row of features.
        features: float32 [rows, features], of all its images or recordings in their order.
        index: int64 [tokens]; 0 for a token of text, n for row n - 1 of the features.
        shifts: int64 [3, tokens], of the positions on each axis from the token's place; None where all are 0.
        shift_after: of all tokens behind the prompt.
        types: int64 [tokens]; 0 for a token that sees only those before it, else neighbours of the same number see each
            other; None where every token is of the first kind.
    """

    token_ids: list[int]
    features: npt.NDArray[np.float32]
    index: npt.NDArray[np.int64]
    shifts: npt.NDArray[np.int64] | None = None
    shift_after: int = 0
    types: npt.NDArray[np.int64] | None = None

    def whole_until(self, place: int) -> int:
        """The end of the tokens that have to be read in one call with the token at a place, if that is cut behind it.

        It is the place itself, where nothing before it sees what comes there.
        """
        types = self.types
        if types is None or not 0 < place < len(types) or not types[place - 1]:
            return place
        others = np.flatnonzero(types[place:] != types[place - 1])
        return place + int(others[0]) if len(others) else len(types)


@runtime_checkable
class ImageBackend(Backend, Protocol):
    """Runs a model that reads images beside texts; without images it is any other backend."""

    def read_image(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Rows of features of one image, float32 [rows, features], of the arrays that its vision graph reads."""
        ...

    def attach_images(self, state: State, prompts: Sequence[ImagePrompt]) -> None:
        """Let each row of an empty state read the images of its prompt when the prompt's tokens are read."""
        ...


@runtime_checkable
class RecordingBackend(Backend, Protocol):
    """Runs a model that reads recordings beside texts; without recordings it is any other backend."""

    def recording_features(self, blocks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the model reads of samples, float32 [blocks, samples] -> [blocks, ...]."""
        ...

    def read_recording(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Rows of features of one recording, float32 [rows, features], of the arrays that its graph reads."""
        ...

    def attach_images(self, state: State, prompts: Sequence[ImagePrompt]) -> None:
        """Let each row of an empty state read the recordings of its prompt when the prompt's tokens are read."""
        ...
