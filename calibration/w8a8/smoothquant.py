"""SmoothQuant: moves the outliers of an activation into the weights that read it, so that both fit into 8 bits.

Source: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models" (2023),
section 4, equation 4: s_j = max|x_j|**a / max|w_j|**(1-a), x becomes x / s and W becomes W * s. Folding s into the norm
before is `calibration.weights.folding`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jisu.calibration.errors import CalibrationError
from jisu.calibration.weights.folding import widest_columns
from jisu.calibration.weights.formats import Floats

SMALLEST = 1e-5  # of a maximum, so that a silent channel or an empty column gives a finite scale


def smoothing_scales(max_abs: Floats, weights: Sequence[Floats], *, strength: float = 0.5) -> Floats:
    """Scales s, float32 [K], positive.

    Args:
        max_abs: max |x| per channel on the calibration text, [K].
        weights: of every layer that reads x, [N_i, K] each.
        strength: a, 0..1; 0 leaves the activations' shape, 1 makes all their channels equal.

    Raises:
        CalibrationError: a strength outside 0..1.
    """
    if not 0 <= strength <= 1:
        raise CalibrationError(
            "The strength of the smoothing is out of range", received=strength, allowed="0..1", fix="Use 0.5."
        )
    active = np.maximum(max_abs.astype(np.float64), SMALLEST)
    widest = np.maximum(widest_columns(weights).astype(np.float64), SMALLEST)
    return np.asarray(active**strength / widest ** (1 - strength), dtype=np.float32)
