"""What every model is asked: texts, a recording, an image; and how exactly its numbers are compared."""

from __future__ import annotations

from typing import Any

import numpy as np

# The second is a long one, so that more of the model is asked.
PROMPTS = ("The capital of France is", "One two three four five six seven eight nine ten. " * 6)
NEW_TOKENS = 8
DIGITS = 3


def recording(rate: int) -> Any:
    """A second and a half of rising tones, float32 [samples]."""
    at = np.arange(int(1.5 * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 + 300 * at) * at)).astype(np.float32)


def picture() -> Any:
    """An image in which no two parts are alike, uint8 [H, W, 3]."""
    return np.random.default_rng(0).integers(0, 256, (40, 33, 3), dtype=np.uint8)


def rounded(numbers: Any) -> list[Any]:
    """Numbers of an array that JSON holds, to `DIGITS`."""
    values: list[Any] = np.round(np.asarray(numbers, np.float64), DIGITS).tolist()
    return values
