"""What each of several roundings of a layer is expected to cost the model's predictions, from one backward pass.

Nothing is run again with rounded weights: see `calibration.expected_divergence`. Costs of different layers add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import ONE_PASS_KINDS, SPEECH, TEXT_TO_TEXT
from jisu.exporter.jobs.free_memory import give_back_freed
from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.quantization.weight_formats import fit_block_size
from jisu.exporter.sources.compute_device import visits_device
from jisu.exporter.sources.half_width import float32_array
from jisu.exporter.sources.layer_stack import decoder_layers
from jisu.exporter.sources.reason import reason_of

if TYPE_CHECKING:
    from jisu.calibration.expected_divergence import SeenInput
    from jisu.calibration.weights.formats import BlockQuantized, Floats
    from jisu.exporter.quantization.calibration_data import CalibrationData
    from jisu.exporter.sources.source import Source

# Of the calibration windows, and tokens of each that layers are judged on.
WINDOWS, TOKENS = 16, 32
# Parameters of a model whose activations are still few enough to be held for a backward pass: 1.5 GB at the most.
LARGEST = 1 << 31
# They give no next-token distribution of a whole text.
_OTHER_KINDS = (*ONE_PASS_KINDS, TEXT_TO_TEXT, SPEECH)


class NoGradientsError(Exception):
    """A model of which no backward pass can be made, and why."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Layers with one input and one shape, such as a gate and its up projection: one format, computed as one.

    Attributes:
        costs: expected KL divergence in nats with each of the roundings, from few bits to many.
    """

    names: tuple[str, ...]
    costs: tuple[float, ...]


def can_observe(source: Source) -> bool:
    """Whether the model is of a kind and a size of which a backward pass is made."""
    return source.model_kind not in _OTHER_KINDS and source.model.parameters <= LARGEST


def first_windows(data: CalibrationData, places: Sequence[int] | None = None) -> list[Any]:
    """A few calibration windows, of all parts of the mixture alike; int64 [T] each.

    Args:
        places: of those that may be used; None for all.
    """
    from jisu.calibration.text.mixture import take_turns

    windows = data.windows.as_list()
    usable = range(len(windows)) if places is None else places
    order = take_turns([data.parts[place] for place in usable]) if data.parts else range(len(usable))
    return [windows[usable[place]] for place in list(order)[:WINDOWS]]


def observe_layers(source: Source, names: Sequence[str], windows: Sequence[Any]) -> list[SeenInput]:
    """What enters linear layers, and how much their outputs move the predictions; those that are called once for
    each token.

    Args:
        names: module paths of linear layers in or behind the decoder's layers.
        windows: int64 [T] each.

    Raises:
        NoGradientsError: of a forward that changes what gradients need; says what.
    """
    import torch

    from jisu.calibration.expected_divergence import observe

    layers = list(decoder_layers(source))
    paged = source.paged
    # Weights that are widened or taken to a device in a call come with hooks that pass by a layer whose forward was
    # replaced; those that are widened are held in two bytes.
    recompute = paged is not None and not source.in_place and not any(map(visits_device, layers))
    observed = partial(
        observe,
        source.module,
        layers,
        names,
        windows,
        tokens=TOKENS,
        recompute=recompute,
        # Of what a window's gradients took, the heap would keep half.
        progress=lambda *_: give_back_freed(),
    )
    try:
        return observed() if paged is None else observed(put_aside=paged.store_tensor)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as reason:
        raise NoGradientsError(reason_of(reason)) from reason


def expected_costs(
    source: Source,
    observed: Sequence[SeenInput],
    codes: Sequence[Mapping[str, BlockQuantized]],
    nearest: WeightFormat,
) -> list[Unit]:
    """The units that all codes have, each with its costs: of the codes in their order, then rounded to the nearest.

    Args:
        codes: by parameter name.
        nearest: in this format.
    """
    units = []
    for one in observed:
        parameters = {f"{name}.weight" for name in one.names}
        if all(parameters <= set(part) for part in codes):
            ways = [*(partial(_rounded_before, part) for part in codes), partial(_to_nearest, nearest)]
            units.append(Unit(names=one.names, costs=tuple(_cost(source, one, way) for way in ways)))
    return units


def _cost(source: Source, seen: SeenInput, rounded: Callable[[str, Floats], Floats]) -> float:
    """What it costs to compute with rounded weights: ``rounded`` has them by a layer's name and its weight."""
    weights = {name: _weight(source, name) for name in seen.names}
    cost = seen.divergence([rounded(name, weight) - weight for name, weight in weights.items()])
    source.count_read(sum(weight.nbytes for weight in weights.values()))
    return cost


def _rounded_before(codes: Mapping[str, BlockQuantized], name: str, weight: Floats) -> Floats:
    return codes[f"{name}.weight"].dequantize()


def _to_nearest(form: WeightFormat, name: str, weight: Floats) -> Floats:
    """The weight itself where no block size divides it: such a layer is in no choice."""
    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    fitted = fit_block_size(form, weight.shape[1])
    return weight if fitted is None else round_to_nearest(weight, fitted.to_block_format(), layer=name).dequantize()


def _weight(source: Source, name: str) -> Floats:
    layer: Any = source.module.get_submodule(name)
    return float32_array(layer.weight)
