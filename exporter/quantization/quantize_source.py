"""A source's weights -> integers, by parameter name, as a choice says.

The source's own weights are as before when it returns: the gate compares with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.precision.precision import Int8MatmulFormat, RowFormat, WeightFormat
from jisu.exporter.quantization.balanced_layers import balanced_layer_names, round_balanced
from jisu.exporter.quantization.calibration_errors import as_input_errors
from jisu.exporter.quantization.finished_layers import statistics_folder
from jisu.exporter.quantization.from_statistics import has_hessians, quantize_from_statistics
from jisu.exporter.quantization.grids import take_grids
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.output_projections import quantize_output_projections
from jisu.exporter.quantization.rounding_tasks import round_on_cluster, round_weight
from jisu.exporter.quantization.spread_bits import all_few, between, spread_bits
from jisu.exporter.quantization.w8a8 import KEPT_FORMAT, find_products
from jisu.exporter.quantization.walked_layers import ROUNDED_BITS, codes_of, quantize_by_format, walk_layers
from jisu.exporter.quantization.weight_formats import FormatChoice, fit_block_size
from jisu.exporter.sources.finite_weights import check_finite_weights
from jisu.exporter.sources.half_width import float32_array
from jisu.exporter.sources.layer_stack import decoder_layers, find_stack

if TYPE_CHECKING:
    from jisu.calibration.statistics.statistics import Statistics
    from jisu.calibration.w8a8.feeders import Feeder
    from jisu.calibration.w8a8.matmul import Quantized
    from jisu.calibration.weights.formats import BlockQuantized
    from jisu.exporter.jobs.resume_folder import ResumeFolder
    from jisu.exporter.quantization.calibration_data import CalibrationData
    from jisu.exporter.quantization.walked_sensitivity import WalkedLayers
    from jisu.exporter.sources.source import Source
    from jisu.exporter.sources.worker_source import Workers


@dataclass(frozen=True, kw_only=True)
class QuantizedWeights:
    """What became of a source's weights.

    Attributes:
        by_name: parameter name -> integers, the names as in the checkpoint; tied weights share one value.
        record: formats, algorithm and calibration text, for the manifest.
    """

    by_name: Mapping[str, Quantized]
    record: dict[str, Any]


def quantize_source(
    source: Source,
    choice: FormatChoice,
    *,
    data: CalibrationData | None = None,
    windows: list[Any] | None = None,
    resume: ResumeFolder | None = None,
    workers: Workers | None = None,
    walked: WalkedLayers | None = None,
    again: bool = False,
    progress: ReportProgress | None = None,
) -> QuantizedWeights:
    """Quantize every weight that the choice gives a format; those of experts each on the tokens that were sent to it.

    Args:
        source: its module is changed while this runs and restored before it ends.
        choice: see `exporter.quantization.weight_formats`.
        data: calibration windows, which a choice that is `calibrated` needs.
        windows: those of them that are used, int64 [T] each; when None all, or the Hessians of stored statistics, where
            there are any, instead of another run of the model (see `exporter.quantization.from_statistics`).
        resume: what an export like this one has finished, and where this one keeps what it finishes.
        workers: of the connected cluster, which round what needs no text; None rounds everything here.
        walked: layers that have been rounded on text, in all formats that a choice may have; None rounds them here.
        again: round layers behind those that the choice gives, and take of ``walked`` the output projections alone.
        progress: called with the layers done and their number.

    Raises:
        InputError: a block size that does not divide a layer, or activations that are not finite.
    """
    if not any(choice.formats.values()):
        return QuantizedWeights(by_name={}, record={})
    from jisu.exporter.tracing.expert_layers import expert_layers

    check_finite_weights(source.module)
    source.let_go()
    with expert_layers(source.module):
        return _quantize(
            source,
            choice,
            data=data,
            windows=windows,
            resume=resume,
            workers=workers,
            walked=walked,
            again=again,
            progress=progress,
        )


def _quantize(
    source: Source,
    choice: FormatChoice,
    *,
    data: CalibrationData | None,
    windows: list[Any] | None,
    resume: ResumeFolder | None,
    workers: Workers | None,
    walked: WalkedLayers | None,
    again: bool,
    progress: ReportProgress | None,
) -> QuantizedWeights:
    from jisu.calibration.w8a8.feeders import fold_into_feeders
    from jisu.calibration.weights.formats import BlockQuantized
    from jisu.calibration.weights.half_scales import round_scales

    weights: dict[str, Quantized] = {}
    more: dict[str, Any] = {}
    feeders: dict[str, Feeder] = {}
    weights |= take_grids(source, choice)
    with as_input_errors():
        if choice.calibrated:
            assert data is not None, "a calibrated choice without calibration text"
            more["calibration"] = data.record
            walks = _walks_all(source, _calibrated_layers(source, choice))
            feeders = _feeders(source, choice, data) if walks else {}
        if choice.algorithm == "balanced" and data is not None:
            more["calibration"] = data.record
            names = balanced_layer_names(source, choice)
            feeders = _feeders(source, choice, data) if _walks_all(source, names) else {}
            # What a cache holds stays what the source's holds: the gate continues from the source's own.
            feeders = {reader: feeder for reader, feeder in feeders.items() if not feeder.crosses_tokens}
            layers, more["balanced"] = round_balanced(
                source, choice, data, feeders=feeders, resume=resume, progress=progress
            )
            weights |= layers
        if choice.algorithm == "smoothquant" and data is not None:
            products, choice, more["products"] = _int8_matmuls(source, choice, data, feeders, progress)
            weights |= products
        elif choice.calibrated and data is not None:
            chosen = data.windows.as_list() if windows is None else windows
            if not _calibrated_layers(source, choice):
                more["statistics"] = "of the output projection"
            elif windows is None and data.statistics is not None and has_hessians(data.statistics):
                more["statistics"] = f"one-shot, from {data.statistics.folder.name}/"
                weights |= _from_statistics(source, choice, data.statistics, feeders, progress)
            elif walked is not None and not again:
                more["statistics"] = "sequential, layer after layer, in all formats at once"
                weights |= walked.layers(choice)
            elif not walks:
                more["statistics"] = "one-shot"
                with statistics_folder(resume) as folder:
                    collected = _collect(source, choice, data, folder, progress)
                    weights |= _from_statistics(source, choice, collected, feeders, progress)
            else:
                more["statistics"] = "sequential, layer after layer"
                few = all_few(source, choice)
                finer_formats = {} if few is None else between(source, choice)
                layers, *finer = walk_layers(
                    source, few or choice, finer_formats, chosen, feeders, progress, resume=resume
                )
                if few is not None:
                    choice, record = spread_bits(source, choice, data, [layers, *finer])
                    more |= {"spread": record} if record else {}
                    feeders = _with_common_scales(feeders, choice)
                    layers = codes_of(choice, [layers, *finer])
                weights |= layers
            if walked is None:
                weights |= quantize_output_projections(source, choice, chosen)
            else:
                weights |= walked.output_projections(source, choice)
        weights |= _round_rest(source, choice, set(weights), progress, workers=workers)
        recurrent = _round_recurrent(source, choice)
    unreached = [name for name, part in weights.items() if isinstance(part, BlockQuantized) and part.unreached]
    if unreached:
        more["unreached"] = [name.removesuffix(".weight") for name in unreached]
    folded = fold_into_feeders({name.removesuffix(".weight"): part for name, part in weights.items()}, feeders)
    # Tied weights stay one object.
    rounded = {id(part): round_scales(part) if isinstance(part, BlockQuantized) else part for part in folded.values()}
    by_name = {f"{name}.weight": rounded[id(part)] for name, part in folded.items()} | recurrent
    return QuantizedWeights(by_name=by_name, record={**choice.to_record(), **more})


def _walks_all(source: Source, names: Sequence[str]) -> bool:
    """Whether every layer that calibration speaks of stands in a stack, which can be walked."""
    stack = find_stack(source.module)
    return stack is not None and all(name.startswith(f"{stack.path}.") for name in names)


def _calibrated_layers(source: Source, choice: FormatChoice) -> list[str]:
    """Layers that are rounded by what calibration text makes of their inputs."""
    matrices = [matrix for matrix in matrices_of(source.module) if not matrix.embedding and not matrix.recurrent]
    return [
        matrix.name
        for matrix in matrices
        if isinstance(form := choice.formats.get(matrix.name), Int8MatmulFormat)
        or (isinstance(form, WeightFormat) and form.bits < ROUNDED_BITS)
    ]


def _feeders(source: Source, choice: FormatChoice, data: CalibrationData) -> dict[str, Feeder]:
    """Layers that can take over the channel scales of those that read them: quantized ones, whose readers are of one
    format and so have scales in common."""
    from jisu.calibration.w8a8.feeders import find_feeders

    feeders = find_feeders(source.module, list(decoder_layers(source)), data.windows.ids[0])
    return _with_common_scales(feeders, choice)


def _with_common_scales(feeders: Mapping[str, Feeder], choice: FormatChoice) -> dict[str, Feeder]:
    read_in: dict[str, set[Any]] = {}
    for reader, feeder in feeders.items():
        read_in.setdefault(feeder.name, set()).add(choice.formats.get(reader))
    return {
        reader: feeder
        for reader, feeder in feeders.items()
        if choice.formats.get(feeder.name) is not None and len(read_in[feeder.name]) == 1
    }


def _int8_matmuls(
    source: Source,
    choice: FormatChoice,
    data: CalibrationData,
    feeders: Mapping[str, Feeder],
    progress: ReportProgress | None,
) -> tuple[dict[str, Quantized], FormatChoice, dict[str, Any]]:
    """(products by parameter name, the choice with the layers that keep float32 inputs, how they were chosen)."""
    assert choice.max_kl is not None, "a choice without the divergence that it is for"
    int8_matmuls = find_products(source, choice, data, max_kl=choice.max_kl, feeders=feeders, progress=progress)
    formats = dict(choice.formats)
    for name in (name for group in int8_matmuls.kept for name in group):
        layer: Any = source.module.get_submodule(name)
        formats[name] = fit_block_size(KEPT_FORMAT, layer.weight.shape[1], short=False)
    products = {f"{name}.weight": product for name, product in int8_matmuls.products.items()}
    return dict(products), replace(choice, formats=formats), int8_matmuls.record


def _from_statistics(
    source: Source,
    choice: FormatChoice,
    statistics: Statistics,
    feeders: Mapping[str, Feeder],
    progress: ReportProgress | None,
) -> dict[str, BlockQuantized]:
    """The decoder's layers, each on what the unquantized model was seen to feed it."""
    matrices = [matrix for matrix in matrices_of(source.module) if not matrix.embedding and not matrix.recurrent]
    names = [matrix.name for matrix in matrices if isinstance(choice.formats.get(matrix.name), WeightFormat)]
    quantize = partial(quantize_by_format, choice)
    results = quantize_from_statistics(source, names, statistics, quantize, feeders=feeders, progress=progress)
    return {f"{name}.weight": source.put_aside(value) for name, value in results}


def _round_rest(
    source: Source,
    choice: FormatChoice,
    done: set[str],
    progress: ReportProgress | None,
    *,
    workers: Workers | None = None,
) -> dict[str, BlockQuantized]:
    """Round to nearest whatever the choice has and nothing else has quantized; a shared weight once."""
    forms = {name: form for name, form in choice.formats.items() if isinstance(form, WeightFormat)}
    storages = {name: id(source.module.get_submodule(name).weight) for name in forms if f"{name}.weight" not in done}
    # Of names for one weight the first one.
    owners = {storage: name for name, storage in reversed(storages.items())}
    own = {name: forms[name] for name in storages if owners[storages[name]] == name}
    parts = _rounded_here(source, own) if workers is None else round_on_cluster(workers, own)
    rounded: dict[str, BlockQuantized] = {}
    for part in parts:
        rounded |= {name: source.put_aside(result) for name, result in part.items()}
        if progress is not None and not done:
            progress(len(rounded), len(own))
    return {f"{name}.weight": rounded[owners[storage]] for name, storage in storages.items()}


def _rounded_here(source: Source, forms: Mapping[str, WeightFormat]) -> Iterator[dict[str, BlockQuantized]]:
    for name, form in forms.items():
        yield {name: round_weight(source.module, name, form)}


def _collect(
    source: Source, choice: FormatChoice, data: CalibrationData, folder: Path, progress: ReportProgress | None
) -> Statistics:
    """Statistics of the inputs of every linear layer that has a format, with Hessians."""
    from jisu.calibration.statistics.collect import CollectSettings, collect

    selected = {name for name, form in choice.formats.items() if isinstance(form, WeightFormat)}
    return collect(
        source.module,
        data.windows,
        folder,
        settings=CollectSettings(hessians=True),
        keep=lambda name: name not in selected,
        progress=progress,
    )


def _round_recurrent(source: Source, choice: FormatChoice) -> dict[str, Quantized]:
    """The matrices of recurrent layers, to the nearest, row by row, by parameter name; floats multiply them."""
    from jisu.calibration.w8a8.matmul import ActivationFormat, Int8Matmul
    from jisu.calibration.w8a8.static_activations import quantize_rows

    names = [name for name, form in choice.formats.items() if isinstance(form, RowFormat)]
    parameters = dict(source.module.named_parameters(remove_duplicate=False))
    by_name: dict[str, Quantized] = {}
    for name in names:
        rows = quantize_rows(float32_array(parameters[name]))
        by_name[name] = Int8Matmul(codes=rows.codes, scales=rows.scales, format=ActivationFormat(activation=None))
    return by_name
