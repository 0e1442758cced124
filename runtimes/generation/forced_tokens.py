"""Tokens that a model's own settings force upon an answer: the one after its start, and the one at its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class ForcedTokens:
    """A logits processor that allows one token where the model's settings leave no choice.

    ``first`` is the answer's first token, after ``prompt`` tokens; ``last`` its last one, when it has not ended within
    ``limit`` tokens before.
    """

    first: int | None
    last: int | None
    prompt: int
    limit: int

    def __call__(self, ids: Sequence[int], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        said = len(ids) - self.prompt
        token = self.first if said == 0 else self.last if said == self.limit - 1 else None
        if token is None:
            return scores
        forced = np.full_like(scores, -np.inf)
        forced[token] = 0.0
        return forced
