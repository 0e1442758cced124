"""What a sequential quantization will need, computed from shapes alone, so that it is known before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jisu.calibration.model.layer_walk import IN_MEMORY


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Beyond the model's own weights.

    Attributes:
        memory_bytes: at the peak; an upper estimate.
        disk_bytes: of hidden states that do not fit into memory.
        operations: floating-point operations, one multiplication and one addition being two.
    """

    memory_bytes: int
    disk_bytes: int
    operations: float

    def seconds(self, operations_per_second: float) -> float:
        """At this rate; a core with AVX-512 does about 5e10 to 1e11 in these sizes of matrices."""
        return self.operations / operations_per_second


def sequential_needs(groups: Sequence[tuple[int, int]], *, layers: int, windows: int, length: int, width: int) -> Needs:
    """The needs of `calibration.sequential.quantize_sequentially` with GPTQ.

    Args:
        groups: [N, K] of the stacked matrices of each group of one decoder layer, in running order; attention itself,
            which has no weights, is not counted.
        layers: alike decoder layers.
        windows, length: of the calibration.
        width: of the hidden states.
    """
    tokens = windows * length
    states = 4 * tokens * width
    widest = 0
    operations, before = 0.0, 0
    for rows, features in groups:
        # X^T X and its mean in float32; damped, inverted, factored and one work copy in float64.
        hessians = (2 * 4 + 4 * 8) * features * features
        # The weight, what is left of it, codes in float32 twice and in uint8, the dequantized result.
        weights = (5 * 4 + 1) * rows * features
        widest = max(widest, hessians + weights)
        # One pass over everything before the group, and X^T X.
        operations += 2.0 * tokens * (before + features * features)
        # Inverse and factor, then one update of every column by every earlier one.
        operations += (2 + 1 / 3) * features**3 + float(rows) * features * features
        before += rows * features
    operations += 2.0 * tokens * before
    in_memory = states if states <= IN_MEMORY else 0
    return Needs(memory_bytes=in_memory + widest, disk_bytes=states - in_memory, operations=operations * layers)
