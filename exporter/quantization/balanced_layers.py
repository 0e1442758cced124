"""Layers of 8 bits rounded to the nearest, with the channels of their inputs balanced against those of their weights.

ONNX Runtime's CPU kernel rounds inputs to 8 bits as well. The scales fold into the norm or the layer before, so that
nothing is added that runs; where they do not fold, they have to halve the error to be worth a multiplication.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.precision.precision import ROW, WeightFormat
from jisu.exporter.quantization.finished_layers import statistics_folder
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.weight_formats import FormatChoice
from jisu.exporter.sources.half_width import float32_array

if TYPE_CHECKING:
    from jisu.calibration.statistics.statistics import InputStatistics, Statistics
    from jisu.calibration.w8a8.feeders import Feeder
    from jisu.calibration.weights.formats import BlockQuantized, Floats
    from jisu.exporter.jobs.resume_folder import ResumeFolder
    from jisu.exporter.quantization.calibration_data import CalibrationData
    from jisu.exporter.sources.source import Source

# The expected error may be at most so much of what it is without scales, where folding is free and where it may not be.
_FREE, _PAID = 0.9, 0.5


def balanced_layer_names(source: Source, choice: FormatChoice) -> list[str]:
    """Layers whose channels are balanced: those in blocks, but the embedding, the output projection and experts.

    The input of an expert goes to all others and to the router as well, so that scales would not fold.
    """
    matrices = [matrix for matrix in matrices_of(source.module) if not (matrix.embedding or matrix.recurrent)]
    forms = {matrix.name: choice.formats.get(matrix.name) for matrix in matrices if not matrix.routed}
    return [name for name, form in forms.items() if isinstance(form, WeightFormat) and form.block_size != ROW]


def round_balanced(
    source: Source,
    choice: FormatChoice,
    data: CalibrationData,
    *,
    feeders: Mapping[str, Feeder],
    resume: ResumeFolder | None = None,
    progress: ReportProgress | None = None,
) -> tuple[dict[str, BlockQuantized], dict[str, Any]]:
    """The layers by parameter name, and how many inputs were balanced, for the manifest.

    Args:
        data: calibration windows, or their statistics.
        feeders: see `calibration.w8a8.feeders.find_feeders`.
        resume: see `exporter.quantization.quantize_source.quantize_source`.
        progress: called with the windows done and their number.

    Raises:
        CalibrationError: activations that are not finite, or statistics of something else.
    """
    if data.statistics is not None:
        return _round(source, choice, data.statistics, feeders)
    with statistics_folder(resume) as folder:
        return _round(source, choice, _collect(source, choice, data, folder, progress), feeders)


def describe_balanced(record: Mapping[str, Any]) -> str:
    """The manifest's record in words, without a full stop."""
    error = record["relative_error"]
    if error is None:
        return f"no channel scales, which help none of {record['inputs']} inputs"
    return f"{record['balanced']} of {record['inputs']} inputs, expected rounding error {error:.2f} of what it was"


def _round(
    source: Source, choice: FormatChoice, statistics: Statistics, feeders: Mapping[str, Feeder]
) -> tuple[dict[str, BlockQuantized], dict[str, Any]]:
    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    rounded: dict[str, BlockQuantized] = {}
    errors = []
    groups = list(_groups(statistics, balanced_layer_names(source, choice)))
    for names in groups:
        weights = [_weight(source, name) for name in names]
        form = choice.formats[names[0]]
        assert isinstance(form, WeightFormat)
        scales, error = channel_scales(
            statistics.of(names[0]), weights, block_size=form.block_size, feeder=feeders.get(names[0])
        )
        if scales is not None:
            errors.append(error)
        for name, weight in zip(names, weights, strict=True):
            own = choice.formats[name]
            assert isinstance(own, WeightFormat)
            codes = round_to_nearest(weight, own.to_block_format(), layer=name, channel_scales=scales)
            rounded[f"{name}.weight"] = source.put_aside(codes)
    mean = float(sum(errors) / len(errors)) if errors else None
    return rounded, {"inputs": len(groups), "balanced": len(errors), "relative_error": mean}


def channel_scales(
    seen: InputStatistics, weights: list[Floats], *, block_size: int, feeder: Feeder | None
) -> tuple[Floats | None, float]:
    """(scales [K] of the layers that read one input, expected error relative to none); None where they do not pay."""
    from jisu.calibration.weights.balanced_channels import balanced_error, balancing_scales, column_squares

    columns = column_squares(weights)
    scales = balancing_scales(seen.mean_square, columns, layer=seen.names[0])
    if feeder is not None:
        scales = feeder.tie(scales)
    error = balanced_error(seen.mean_square, weights, scales, columns=columns, block_size=block_size)
    # Several layers with one input mostly follow a norm, which takes their scales.
    free = feeder is not None or len(weights) > 1
    return (scales, error) if error <= (_FREE if free else _PAID) else (None, 1.0)


def _groups(statistics: Statistics, names: list[str]) -> Iterator[tuple[str, ...]]:
    """Those of the layers that read one input, together."""
    selected = set(names)
    known = {name for group in statistics.groups for name in group}
    for name in names:
        if name not in known:
            statistics.of(name)  # says what is missing
    for group in statistics.groups:
        part = tuple(name for name in group if name in selected)
        if part:
            yield part


def _weight(source: Source, name: str) -> Floats:
    layer: Any = source.module.get_submodule(name)
    weight: Floats = float32_array(layer.weight)
    return weight


def _collect(
    source: Source, choice: FormatChoice, data: CalibrationData, folder: Path, progress: ReportProgress | None
) -> Statistics:
    from jisu.calibration.statistics.collect import CollectSettings, collect

    selected = set(balanced_layer_names(source, choice))
    return collect(
        source.module,
        data.windows,
        folder,
        settings=CollectSettings(),
        keep=lambda name: name not in selected,
        progress=progress,
    )
