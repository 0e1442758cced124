"""Takes quantized codes further: each one in turn moves to where the outputs' error is least, all others held fixed.

Cyclic coordinate descent on trace(D H D^T), D = W - dequantized, as in Behdin et al., "QuantEase: Optimization-based
Quantization for Language Models" (2023), section 3. With scale s and gradient g = (D H)_i, code i moves by
round(g / (H_ii s)). GPTQ cannot return to a column; this can. The scales stay, so that any method's result may be its
start.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jisu.calibration.weights.formats import BlockQuantized, Floats, spread

COLUMNS = 64  # whose changes are gathered before the gradient of all others is brought up to date


def refine_codes(
    weight: Floats,
    hessian: npt.NDArray[np.floating],
    start: BlockQuantized,
    *,
    damping: float = 0.03,
    sweeps: int = 2,
) -> BlockQuantized:
    """Lower the error on the calibration inputs by changing codes. It never rises, but for rounding of sums.

    Args:
        weight: float32 [N, K].
        hessian: X^T X, [K, K], or any positive multiple.
        start: the quantized weight.
        damping: share of the mean diagonal of H added to its diagonal, as for GPTQ.
        sweeps: times that every code is visited.
    """
    features = weight.shape[1]
    damped = np.array(hessian, dtype=np.float32)
    damped /= max(float(np.diagonal(damped).mean()), float(np.finfo(np.float32).tiny))
    damped[np.diag_indices(features)] += np.float32(damping)
    # One row per input feature: what a step touches is contiguous.
    scales = np.ascontiguousarray(spread(start.scales, start.format, features).T)
    zeros = np.ascontiguousarray(spread(start.zero_points, start.format, features).T.astype(np.float32))
    codes = np.ascontiguousarray(start.codes.T.astype(np.float32))
    gradient = damped @ (np.ascontiguousarray(weight.T, dtype=np.float32) - (codes - zeros) * scales)
    for _ in range(sweeps):
        for begin in range(0, features, COLUMNS):
            columns = range(begin, min(begin + COLUMNS, features))
            inside = slice(begin, columns.stop)
            local, moved = gradient[inside].copy(), np.empty_like(gradient[inside])
            for i in columns:
                ideal = codes[i] + np.rint(local[i - begin] / (damped[i, i] * scales[i]))
                np.clip(ideal, 0, start.format.largest_code, out=ideal)
                moved[i - begin] = (ideal - codes[i]) * scales[i]
                codes[i] = ideal
                local -= damped[inside, i, None] * moved[i - begin]
            gradient -= damped[:, inside] @ moved
    return BlockQuantized(
        codes=np.ascontiguousarray(codes.T).astype(np.uint8),
        scales=start.scales,
        zero_points=start.zero_points,
        format=start.format,
    )
