"""Cuts token ids into windows of one length and draws some of them, or invents some, reproducibly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import TextError

TokenIds = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """What the model is calibrated on.

    Attributes:
        ids: int64 [windows, length].
        seed: that they were drawn with.
    """

    ids: TokenIds
    seed: int

    @property
    def sha256(self) -> str:
        """Of the shape and the ids as little-endian int64: two texts with one hash calibrate alike."""
        shape = np.array(self.ids.shape, dtype="<i8").tobytes()
        return hashlib.sha256(shape + np.ascontiguousarray(self.ids, dtype="<i8").tobytes()).hexdigest()

    def as_list(self) -> list[TokenIds]:
        """The windows one by one, int64 [length] each."""
        return list(self.ids)


def draw_windows(token_ids: npt.ArrayLike, *, count: int, length: int, seed: int = 0) -> Windows:
    """Draw up to ``count`` windows that do not overlap, in the order of the text.

    Args:
        token_ids: the whole text, integers [n].
        count: windows wanted; a shorter text gives all it has.
        length: tokens of each.
        seed: the same seed and text give the same windows.

    Raises:
        TextError: the text is shorter than one window, or a size is not positive.
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    if count < 1 or length < 1:
        raise TextError(
            "The windows have no size",
            received=f"{count} windows of {length} tokens",
            allowed="at least one window of at least one token",
            fix="Use 64 windows of 512 tokens.",
        )
    available = len(ids) // length
    if not available:
        raise TextError(
            "The calibration text is shorter than one window",
            received=f"{len(ids)} tokens",
            allowed=f"at least {length} tokens",
            fix="Give more text, or use shorter windows.",
        )
    chosen = np.random.default_rng(seed).permutation(available)[:count]
    cut = ids[: available * length].reshape(available, length)
    return Windows(ids=np.ascontiguousarray(cut[np.sort(chosen)]), seed=seed)


def random_windows(vocabulary: int, *, count: int, length: int, first: Sequence[int] = (), seed: int = 0) -> Windows:
    """Windows of tokens that are all equally likely, such as no text of one language or kind has.

    Args:
        vocabulary: number of token ids.
        count, length: how many, and tokens of each.
        first: ids that the windows begin with, in turn; special tokens, after which models react most strongly.
        seed: the same arguments give the same windows.
    """
    ids = np.random.default_rng(seed).integers(0, vocabulary, (count, length))
    if first:
        ids[:, 0] = np.resize(np.asarray(first, np.int64), count)
    return Windows(ids=ids, seed=seed)
