"""How far logits are from the reference's, in the reference's own unit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def logit_errors(reference: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """max |candidate - reference| / standard deviation of the reference, per row; [N, V] each -> float64 [N]."""
    with np.errstate(invalid="ignore", over="ignore"):
        spread = np.maximum(reference.std(axis=1, dtype=np.float64), np.finfo(np.float32).tiny)
        distance = np.abs(candidate - reference).max(axis=1).astype(np.float64)
        # inf - inf and inf / x must not look like a distance.
        errors: npt.NDArray[np.float64] = np.where(np.isfinite(distance), distance / spread, np.nan)
    return errors
