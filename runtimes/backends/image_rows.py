"""Which rows of image features the tokens of a state's rows read, and where their positions lie: numpy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.backend import TokenIds
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_prompt import ImagePrompt

AXES = 3


class ImageRows:
    """The images of a batch.

    Args:
        prompts: of each row; they may share their features, which are held once then.
    """

    def __init__(self, prompts: Sequence[ImagePrompt]) -> None:
        self._prompts = list(prompts)
        blocks = {id(prompt.features): prompt.features for prompt in prompts if len(prompt.features)}
        first = np.cumsum([0, *(len(block) for block in blocks.values())])
        self._first = dict(zip(blocks, first.tolist(), strict=False))
        width = prompts[0].features.shape[1]
        # A row that nothing reads stands in for no images: gathering from nothing is an error.
        joined = np.concatenate(list(blocks.values())) if blocks else np.zeros((1, width))
        self.features: npt.NDArray[np.float32] = np.ascontiguousarray(joined, np.float32)

    @property
    def shifted(self) -> bool:
        """Whether any token's position is not its place in the text."""
        return any(prompt.shifts is not None for prompt in self._prompts)

    def index_at(self, past: TokenIds, width: int) -> TokenIds:
        """What ``width`` tokens of each row behind its past read, int64 [B, width]."""
        index = np.zeros((len(past), width), np.int64)
        for row, prompt in enumerate(self._prompts):
            part = prompt.index[past[row] : past[row] + width]
            index[row, : len(part)] = np.where(part > 0, part + self._first.get(id(prompt.features), 0), 0)
        return index

    def shifts_at(self, past: TokenIds, width: int) -> TokenIds:
        """The shifts of their positions, int64 [3, B, width]."""
        shifts = np.zeros((AXES, len(past), width), np.int64)
        for row, prompt in enumerate(self._prompts):
            shifts[:, row] = prompt.shift_after
            if prompt.shifts is not None:
                part = prompt.shifts[:, past[row] : past[row] + width]
                shifts[:, row, : part.shape[1]] = part
        return shifts

    def types_of(self, capacity: int) -> TokenIds:
        """The types of all tokens that rows have room for, int64 [B, capacity]; 0 behind the prompts."""
        types = np.zeros((len(self._prompts), capacity), np.int64)
        for row, prompt in enumerate(self._prompts):
            if prompt.types is not None:
                types[row, : len(prompt.types)] = prompt.types[:capacity]
        return types

    def check_whole(self, past: TokenIds, new: TokenIds) -> None:
        """Raise InputError for tokens that see later ones which are not read in the same call."""
        for prompt, begin, count in zip(self._prompts, past.tolist(), new.tolist(), strict=True):
            stop = begin + count
            if (whole := prompt.whole_until(stop)) != stop:
                raise InputError(
                    "A call ends within tokens that see each other",
                    received=f"tokens {begin} to {stop} of a prompt",
                    allowed=f"up to {whole}, or no further than where they begin",
                    fix="Read an image of this model, or the whole prompt, in one call.",
                )

    def row(self, number: int) -> ImageRows:
        """Those of one row alone."""
        return ImageRows([self._prompts[number]])

    def reorder(self, rows: TokenIds) -> None:
        """Let row ``i`` be what row ``rows[i]`` was."""
        self._prompts = [self._prompts[row] for row in rows.tolist()]
