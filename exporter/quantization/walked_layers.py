"""Rounds the decoder's layers one after another on calibration text, each in one format or in several at once.

A layer is rounded on what the quantized ones before it give. In more bits, it is rounded a second time with the same
statistics and channel scales, for whoever chooses between them afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.quantization.finished_layers import FinishedLayers
from jisu.exporter.quantization.weight_formats import FormatChoice
from jisu.exporter.sources.layer_stack import decoder_layers

if TYPE_CHECKING:
    from jisu.calibration.sequential import GroupStatistics
    from jisu.calibration.w8a8.feeders import Feeder
    from jisu.calibration.weights.formats import BlockQuantized, Floats
    from jisu.exporter.jobs.resume_folder import ResumeFolder
    from jisu.exporter.sources.source import Source

# Weights of so many bits are rounded to the nearest, whatever the algorithm.
ROUNDED_BITS = 8


def walk_layers(
    source: Source,
    choice: FormatChoice,
    finer_formats: Mapping[str, Sequence[WeightFormat]],
    windows: list[Any],
    feeders: Mapping[str, Feeder],
    progress: ReportProgress | None,
    *,
    resume: ResumeFolder | None,
) -> list[dict[str, BlockQuantized]]:
    """Codes by parameter name: in the choice's formats, then in the first finer format of each layer, the second ...

    Args:
        finer_formats: by a layer's name, those it is rounded in beside its own.
        feeders: see `calibration.w8a8.feeders.find_feeders`.
        resume: where what is finished is kept.
    """
    from jisu.calibration.sequential import quantize_sequentially

    layers = list(decoder_layers(source))
    results = quantize_sequentially(
        source.module,
        layers,
        windows,
        partial(quantize_by_format, choice, finer_formats=finer_formats),
        keep=lambda name: not isinstance(choice.formats.get(name), WeightFormat),
        feeders=feeders,
        restore=True,
        kept=None if resume is None else FinishedLayers(resume, len(layers)),
        progress=progress,
    )
    codes: list[dict[str, BlockQuantized]] = [{} for _ in range(1 + max(map(len, finer_formats.values()), default=0))]
    for name, value in results:
        for kept, part in zip(codes, (replace(value, finer=()), *value.finer), strict=False):
            kept[f"{name}.weight"] = source.put_aside(part)
    return codes


def quantize_group(
    group: GroupStatistics, form: WeightFormat, *, finer: Sequence[WeightFormat] = ()
) -> Sequence[BlockQuantized]:
    """Quantize matrices that read one input: 8 bits to nearest, fewer with GPTQ on channel scales found by AWQ.

    What no text reached is rounded to the nearest, too.

    Args:
        finer: formats in which each is quantized as well, on the same channel scales.
    """
    import numpy as np

    from jisu.calibration.sequential import split_rows
    from jisu.calibration.weights.awq import search_channel_scales
    from jisu.calibration.weights.few_tokens import weigh_correlations
    from jisu.calibration.weights.folding import multiply_columns
    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    block_format = form.to_block_format()
    if form.bits == ROUNDED_BITS or not group.tokens:
        pairs = zip(group.names, group.weights, strict=True)
        rounded = [round_to_nearest(weight, block_format, layer=name) for name, weight in pairs]
        return [replace(part, unreached=not group.tokens) for part in rounded]
    # Rows are independent and the statistics are one: matrices with one input are quantized as one.
    stacked, layer = np.concatenate(group.weights), group.names[0]
    rows = [len(weight) for weight in group.weights]
    if len(rows) == 1 and group.feeder is None:
        hessian = weigh_correlations(group.hessian, group.tokens) if group.routed else group.hessian
        return [_with_finer(stacked, hessian, form, finer, layer=layer)]
    # Channel scales fold for nothing into the layer before, or into a norm, which several products of one input mostly
    # follow.
    mean_abs = group.mean_abs if group.feeder is None else group.feeder.tie(group.mean_abs)
    search = search_channel_scales([stacked], block_format, mean_abs=mean_abs, hessian=group.hessian, layer=layer)
    scales = search.scales
    hessian = np.outer(scales, scales)
    np.divide(group.hessian, hessian, out=hessian)
    result = _with_finer(multiply_columns(stacked, scales), hessian, form, finer, layer=layer)
    parts, *others = (split_rows(replace(one, channel_scales=scales), rows) for one in (result, *result.finer))
    return [replace(part, finer=tuple(more)) for part, *more in zip(parts, *others, strict=True)]


def _with_finer(
    weight: Floats, hessian: Floats, form: WeightFormat, finer: Sequence[WeightFormat], *, layer: str
) -> BlockQuantized:
    from jisu.calibration.weights.gptq import gptq_formats

    formats = [one.to_block_format() for one in (form, *finer)]
    result, *others = gptq_formats(weight, hessian, formats, layer=layer)
    return replace(result, finer=tuple(others))


def quantize_by_format(
    choice: FormatChoice, group: GroupStatistics, *, finer_formats: Mapping[str, Sequence[WeightFormat]] | None = None
) -> Sequence[BlockQuantized]:
    """Quantize the matrices of a group, those of one format together."""
    pairs = [(choice.formats[name], tuple((finer_formats or {}).get(name, ()))) for name in group.names]
    results: dict[str, BlockQuantized] = {}
    for form, finer in dict.fromkeys(pairs):
        assert isinstance(form, WeightFormat)
        members = [i for i, other in enumerate(pairs) if other == (form, finer)]
        part = replace(
            group,
            names=tuple(group.names[i] for i in members),
            weights=tuple(group.weights[i] for i in members),
        )
        results |= zip(part.names, quantize_group(part, form, finer=finer), strict=True)
    return [results[name] for name in group.names]


def codes_of(choice: FormatChoice, codes: Sequence[Mapping[str, BlockQuantized]]) -> dict[str, BlockQuantized]:
    """Of layers that were rounded in several formats what a choice has, by parameter name.

    What it has in none of these formats is left out.
    """
    every = [(name, part) for kept in codes for name, part in kept.items()]
    return {name: part for name, part in every if _has_format(choice, name, part)}


def _has_format(choice: FormatChoice, parameter: str, part: BlockQuantized) -> bool:
    form = choice.formats.get(parameter.removesuffix(".weight"))
    return isinstance(form, WeightFormat) and form.to_block_format() == part.format
