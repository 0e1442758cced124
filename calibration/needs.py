"""What a sequential quantization will need, computed from shapes alone, so that it is known before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jisu.calibration.model.layer_walk import IN_MEMORY
from jisu.calibration.sequential import STAGE_BYTES
from jisu.calibration.weights.awq import POINTS, count_judging_rows


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


class LayerGroup(NamedTuple):
    """Stacked matrices that read one input, [N, K]; of experts ``copies`` alike, each with a share of the tokens."""

    rows: int
    features: int
    copies: int = 1
    share: float = 1.0


def sequential_needs(
    groups: Sequence[LayerGroup], *, layers: int, windows: int, length: int, width: int, formats: int = 1
) -> Needs:
    """The needs of `calibration.sequential.quantize_sequentially` with AWQ and GPTQ.

    Args:
        groups: of one decoder layer, in running order; attention itself, which has no weights, is not counted.
        layers: alike decoder layers.
        windows, length: of the calibration.
        width: of the hidden states.
        formats: that each group is rounded in, with the same channel scales.
    """
    tokens = windows * length
    states = 4 * tokens * width
    widest = 0
    operations, before = 0.0, 0
    for rows, features, copies, share in groups:
        # X^T X, the same for scaled channels, and the factor in float32; damped, factored and inverted in one float64.
        hessians = (3 * 4 + 8) * features * features
        # The weight, what is left of it, codes in float32 twice and in uint8, the dequantized result.
        weights = (5 * 4 + 1) * rows * features
        # The sums of experts are collected side by side.
        aside = min((copies - 1) * 4 * features * features, STAGE_BYTES)
        widest = max(widest, hessians + weights + aside)
        # One pass over everything before the group, and X^T X.
        operations += 2.0 * tokens * (before + copies * share * features * features)
        # A factor and its inverse, then one update of every column by every earlier one.
        operations += formats * copies * (4 / 3 * features**3 + float(rows) * features * features)
        # The error of the outputs with each of the channel scales that are tried.
        operations += POINTS * copies * 2.0 * count_judging_rows(rows, features) * features * features
        before += int(copies * share * rows * features)
    operations += 2.0 * tokens * before
    in_memory = states if states <= IN_MEMORY else 0
    return Needs(memory_bytes=in_memory + widest, disk_bytes=states - in_memory, operations=operations * layers)
