"""Quantizes a source as was prepared: kept integers, one precision, or a mixed precision found by measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.precision.precision import KEPT, KEPT_FOLDER, MIXED
from jisu.exporter.quantization.feature_weights import graphs_of_features
from jisu.exporter.quantization.grid_mixed_precision import find_grid_mixed_precision, grid_choice
from jisu.exporter.quantization.keep import keep_quantization
from jisu.exporter.quantization.keep_integers import keep_integers
from jisu.exporter.quantization.kept_types import describe_kept
from jisu.exporter.quantization.mixed_precision import Measured, MixedPrecision, find_mixed_precision
from jisu.exporter.quantization.prepared import Prepared, embedding_labels
from jisu.exporter.quantization.quantize_source import QuantizedWeights, quantize_source
from jisu.exporter.quantization.sensitivity import Measure, measure_sensitivity, split_windows
from jisu.exporter.quantization.unreached import describe_unreached
from jisu.exporter.quantization.walked_sensitivity import walk_all_formats

if TYPE_CHECKING:
    from jisu.exporter.jobs.stages import Stages
    from jisu.exporter.quantization.calibration_data import CalibrationData
    from jisu.exporter.sources.source import Source
    from jisu.exporter.sources.worker_source import Workers


def run_quantization(
    source: Source, prepared: Prepared, *, measure: Callable[[QuantizedWeights], Measured], target: str, stages: Stages
) -> QuantizedWeights:
    """Quantize as was prepared, and say what was warned of.

    Args:
        measure: builds an artifact of quantized weights and measures it; only a mixed precision needs it.
    """
    assert prepared.data is None or prepared.data.unwritten is None, "calibration windows that nobody has written yet"
    for warning in prepared.warnings:
        stages.say(f"{warning}.")
    weights = _run_quantization(source, prepared, measure=measure, target=target, stages=stages)
    if weights.record.get("unreached"):
        stages.say(f"{describe_unreached(weights.record['unreached'])}.")
    if not prepared.warnings or not weights.record:
        return weights
    return replace(weights, record={**weights.record, "notes": [*weights.record.get("notes", []), *prepared.warnings]})


def _run_quantization(
    source: Source, prepared: Prepared, *, measure: Callable[[QuantizedWeights], Measured], target: str, stages: Stages
) -> QuantizedWeights:
    options = prepared.options
    if options.precision.name in KEPT:
        whole = target == "portable"
        with stages.stage("quantize"):
            if options.precision.name == KEPT_FOLDER:
                kept = keep_integers(source, whole_bytes=whole, progress=stages.advance)
            else:
                kept = keep_quantization(source, options.checkpoint, whole_bytes=whole, progress=stages.advance)
        for line in describe_kept(kept.record):
            stages.say(line)
        return kept
    if options.precision.name != MIXED:
        with stages.stage("quantize"):
            return quantize_source(
                source,
                prepared.choice,
                data=prepared.data,
                resume=prepared.resume,
                workers=prepared.workers,
                progress=stages.advance,
            )
    assert prepared.data is not None
    data = prepared.data
    statistics = split_windows(data)["statistics"]
    quantize = partial(quantize_source, source, data=data, windows=statistics, progress=stages.advance)
    # What reads images or hears has no decoder layers.
    keep = tuple(name for name in options.keep if name not in graphs_of_features(source))
    own_grid = grid_choice(source, keep=keep)
    if own_grid is not None:
        with stages.stage("mix"):
            on_grid = find_grid_mixed_precision(
                source,
                own_grid,
                options.goal,
                quantize=quantize,
                measure=measure,
                embedding_labels=embedding_labels(target),
                say=stages.say,
            )
        if on_grid is not None:
            return _with_record(on_grid)
    with stages.stage("sensitivity"):
        walked = None
        if prepared.walked and prepared.workers is None:
            walked = walk_all_formats(
                source,
                data,
                target=target,
                keep=keep,
                resume=prepared.resume,
                progress=stages.advance,
                say=stages.say,
            )
        again = None
        if walked is not None:
            sensitivity, layers = walked
            quantize = partial(quantize, walked=layers)
            again = partial(quantize, again=True)
        else:
            sensitivity = measure_sensitivity(
                source,
                data,
                path=options.sensitivity,
                target=target,
                progress=stages.advance,
                measure=_measure_on_cluster(prepared.workers, data),
            )
    with stages.stage("mix"):
        mixed = find_mixed_precision(
            sensitivity,
            options.goal,
            quantize=quantize,
            measure=measure,
            again=again,
            keep=keep,
            embedding_labels=embedding_labels(target),
            say=stages.say,
        )
    return _with_record(mixed)


def _measure_on_cluster(workers: Workers | None, data: CalibrationData) -> Measure | None:
    if workers is None:
        return None
    from jisu.exporter.quantization.sensitivity_tasks import measure_parts_on_cluster

    return partial(measure_parts_on_cluster, workers.source, split_windows(data), memory_bytes=workers.memory_bytes)


def _with_record(mixed: MixedPrecision) -> QuantizedWeights:
    return QuantizedWeights(by_name=mixed.quantized.by_name, record={**mixed.quantized.record, "mix": mixed.record})
