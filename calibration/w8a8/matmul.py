"""8-bit products: int8 weights with a scale per output row, times activations in 8 bits (W8A8).

y = x @ W.T is computed as sum of (integer x) * (integer w) and scaled once per row. The channels of x are smoothed
before (SmoothQuant), so that no channel takes all the codes. Which strength is best is found by trying: `layer_errors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.calibration.model.weight_values import OwnValues, set_values
from jisu.calibration.w8a8.pair_sums import quantize_pairs
from jisu.calibration.w8a8.smoothquant import smoothing_scales
from jisu.calibration.w8a8.static_activations import ActivationScale, activation_scale, quantize_rows
from jisu.calibration.weights.folding import multiply_columns
from jisu.calibration.weights.formats import BlockQuantized, Floats

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from jisu.calibration.statistics.statistics import InputStatistics
    from jisu.calibration.w8a8.feeders import Feeder

# Least max|x| that a scale is found from at run time, so that a token of zeros has one.
SMALLEST_MAGNITUDE = 1e-30
_PIECE = 1 << 20  # weights dequantized at once


@dataclass(frozen=True, kw_only=True)
class ActivationFormat:
    """How the input of an int8 matmul is rounded, which is the same for all weights that read it.

    ``activation`` is None when each token has a scale of its own, found at run time: s = max|x| / 127. With
    a ``lower_bound``, at most 0 and below all inputs, s = max(x - bound) / 255 and code = round((x - bound) / s).
    """

    activation: ActivationScale | None
    lower_bound: float | None = None


@dataclass(frozen=True, kw_only=True)
class Int8Matmul:
    """A weight [N, K] and how its input is rounded.

    Attributes:
        codes: int8 [N, K].
        scales: float32 [N].
        format: how the input is rounded.
        channel_scales: float32 [K] or None. What is quantized is the weight times these, column by column, and what
            makes the input has to be divided by them (`calibration.weights.folding`).
    """

    codes: npt.NDArray[np.int8]
    scales: Floats
    format: ActivationFormat
    channel_scales: Floats | None = None

    def dequantize(self) -> Floats:
        """code * scale, float32 [N, K], over the channel scales: what stands for the original weight."""
        return self._values(self.codes, self.scales)

    def dequantize_pieces(self) -> Iterator[Floats]:
        """The rows of `dequantize` in their order, some at a time."""
        step = max(1, _PIECE // self.codes.shape[1])
        for start in range(0, len(self.codes), step):
            yield self._values(self.codes[start : start + step], self.scales[start : start + step])

    def _values(self, codes: npt.NDArray[np.int8], scales: Floats) -> Floats:
        weight: Floats = codes.astype(np.float32) * scales[:, None]
        return weight if self.channel_scales is None else weight / self.channel_scales

    def round_input(self, values: torch.Tensor) -> torch.Tensor:
        """What the product makes of an input, float32 [..., K]."""
        import torch

        channels = 1 if self.channel_scales is None else torch.from_numpy(self.channel_scales).to(values.device)
        fixed, bound = self.format.activation, self.format.lower_bound
        values = (values - (bound or 0)) / channels
        if bound is not None:
            scale = values.amax(-1, keepdim=True).clamp(min=SMALLEST_MAGNITUDE) / 255
            return torch.clamp(torch.round(values / scale), 0, 255) * scale * channels + bound
        if fixed is None:
            scale = values.abs().amax(-1, keepdim=True).clamp(min=SMALLEST_MAGNITUDE) / 127
            return torch.round(values / scale) * scale * channels
        grid = fixed.as_unsigned()
        codes = torch.clamp(torch.round(values / grid.scale) + grid.zero_point, 0, 255)
        return (codes - grid.zero_point) * grid.scale * channels


def quantize_products(
    statistics: InputStatistics,
    weights: Sequence[Floats],
    *,
    static: bool,
    strength: float,
    lower_bound: float | None = None,
    feeder: Feeder | None = None,
    fit_pairs: bool = True,
) -> list[Int8Matmul]:
    """Quantize the weights that read one input.

    Args:
        statistics: of the input.
        weights: float32 [N_i, K] each.
        static: with a fixed scale for the input; otherwise it is found at run time.
        strength: of the smoothing, 0..1; see `calibration.w8a8.smoothquant`.
        lower_bound: of the input, see `ActivationFormat`; not with a fixed scale.
        feeder: the layer that makes the input; channels of one of its rows are then smoothed alike.
        fit_pairs: with weights that no CPU's 16-bit sums of pairs overflow with; see `calibration.w8a8.pair_sums`.

    Raises:
        ActivationError: the statistics hold no usable range; names the layer.
    """
    layer = statistics.names[0]
    scales = smoothing_scales(statistics.max_abs, weights, strength=strength)
    if feeder is not None:
        scales = feeder.tie(scales)
    largest = float((statistics.max_abs / scales).max())
    scale = activation_scale(-largest, largest, layer=layer) if static else None
    # Of the input as it is multiplied, its channels smoothed.
    mean_square = np.asarray(statistics.mean_square / np.square(scales), dtype=np.float32)
    results = []
    for weight in weights:
        smoothed = multiply_columns(weight, scales)
        rows = quantize_pairs(smoothed, importance=mean_square) if fit_pairs else quantize_rows(smoothed)
        form = ActivationFormat(activation=scale, lower_bound=lower_bound)
        results.append(Int8Matmul(codes=rows.codes, scales=rows.scales, format=form, channel_scales=scales))
    return results


# What becomes of a weight: integers alone, or integers to be multiplied with integers.
Quantized = BlockQuantized | Int8Matmul


@contextmanager
def emulated(model: torch.nn.Module, products: Mapping[str, Int8Matmul]) -> Iterator[None]:
    """Let linear layers, by full name, compute what their int8 matmuls would give."""
    import torch

    own: list[OwnValues] = []
    handles = []
    try:
        for name, product in products.items():
            layer: Any = model.get_submodule(name)
            own.append(OwnValues(layer.weight))
            set_values(layer.weight, torch.from_numpy(product.dequantize()))

            def rounded(_: Any, inputs: tuple[Any, ...], product: Int8Matmul = product) -> tuple[Any, ...]:
                return (product.round_input(inputs[0]), *inputs[1:])

            handles.append(layer.register_forward_pre_hook(rounded))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for values in own:
            values.restore()
