"""Options that have been checked against a source: the choice and the text, before anything long begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import SPEECH, TEXT_TO_TEXT
from jisu.exporter.contract.errors import InputError
from jisu.exporter.passes.run_recipe import PassContext
from jisu.exporter.precision.half_precision import MEASURED_WINDOWS, RANGE_SHARES, computed_half, measures_activations
from jisu.exporter.precision.precision import (
    KEPT,
    KEPT_FOLDER,
    MIXED,
    PRECISIONS,
    Int8MatmulFormat,
    Precision,
    without_text,
)
from jisu.exporter.quantization.calibration_data import (
    MIX_SHARES,
    MIX_WINDOWS,
    WINDOWS,
    CalibrationData,
    prepare_calibration_data,
    write_calibration_data,
)
from jisu.exporter.quantization.calibration_texts import NONE
from jisu.exporter.quantization.feature_weights import graphs_of_features
from jisu.exporter.quantization.grids import describe_grids, keep_grids
from jisu.exporter.quantization.keep_integers import check_quantized, describe_second_rounding
from jisu.exporter.quantization.matrices import describe_uncovered, matrices_of
from jisu.exporter.quantization.options import QuantizationOptions
from jisu.exporter.quantization.sensitivity import (
    EMBEDDING_FORMATS,
    FLOAT,
    check_sensitivity_file,
    check_windows_of,
)
from jisu.exporter.quantization.walked_sensitivity import walked_formats
from jisu.exporter.quantization.weight_formats import (
    FormatChoice,
    choose_formats,
    finer_without_text,
    kept_names,
    stores_all_bits,
    takes_short_blocks,
)
from jisu.exporter.sources.finite_weights import check_finite_weights
from jisu.exporter.sources.layer_stack import find_stack

if TYPE_CHECKING:
    from jisu.calibration.w8a8.matmul import Quantized
    from jisu.exporter.jobs.resume_folder import ResumeFolder
    from jisu.exporter.jobs.stages import Stages
    from jisu.exporter.sources.source import Source
    from jisu.exporter.sources.worker_source import Workers

# The portable graph gathers rows of an embedding with ONNX's own operator, which takes whole bytes only. ONNX Runtime's
# for GPUs takes 4 bits, but reads their zero points as if no row of them were padded to whole bytes (1.31).
_TABLE_LABELS = {"portable": (FLOAT, "int8"), "ort-cuda": (FLOAT, "int8")}
_ALL_TABLE_LABELS = (FLOAT, *EMBEDDING_FORMATS)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Options that have been checked against a source.

    Attributes:
        warnings: what the user would want to know before; also for the manifest.
        check_windows: of a mixed precision, by the part of the calibration mixture, int64 [T] each.
        resume: what an export like this one has finished, and where this one keeps what it finishes; None of a model
            that is done quickly.
        workers: of the connected cluster, for what is independent; None for all of it in this process.
        walked: of a mixed precision, labels of the formats that one walk rounds every layer in; empty where each is
            measured, see `exporter.quantization.walked_sensitivity`.
    """

    options: QuantizationOptions
    choice: FormatChoice
    data: CalibrationData | None
    warnings: tuple[str, ...] = ()
    check_windows: dict[str, list[Any]] = field(default_factory=dict)
    resume: ResumeFolder | None = None
    workers: Workers | None = None
    walked: tuple[str, ...] = ()


def embedding_labels(target: str) -> tuple[str, ...]:
    """Formats that a target can read an embedding in, of those that a mixed precision chooses from."""
    return _TABLE_LABELS.get(target, _ALL_TABLE_LABELS)


def prepare_quantization(
    source: Source, options: QuantizationOptions, *, evaluation: str, target: str = "ort-cpu"
) -> Prepared:
    """Make the choice and read the text, so that whatever is wrong with them is known before anything long begins.

    Args:
        evaluation: text that quality will be measured on, which calibration must not have seen.

    Raises:
        InputError: see `exporter.quantization.weight_formats.choose_formats` and
            `exporter.quantization.calibration_data.prepare_calibration_data`.
    """
    mixed = options.precision.name == MIXED
    no_text = options.calibration is not None and options.calibration.nothing
    if options.precision.name == KEPT_FOLDER:
        check_quantized(source)
    _refuse_without_stack(source, options.precision)
    choice = FormatChoice(formats={}, algorithm="none")
    # What reads images or hears has no decoder layers.
    keep = tuple(name for name in options.keep if name not in graphs_of_features(source))
    if mixed:
        kept_names(matrices_of(source.module), keep)  # says which pattern matches nothing
    else:
        changed = bool(keep) or options.block_size is not None or options.symmetric is not None
        changed |= options.precision.layers is not None
        matrices = matrices_of(source.module) if changed else []
        choice = choose_formats(
            matrices,
            without_text(options.precision) if no_text else options.precision,
            keep=keep,
            block_size=options.block_size,
            symmetric=options.symmetric,
            short_blocks=takes_short_blocks(target),
            stored_bits=stores_all_bits(target, matrices),
        )
        if options.block_size is None and options.symmetric is None:
            choice = keep_grids(source, choice)
        if choice.balanced and source.model_kind in (TEXT_TO_TEXT, SPEECH):
            choice = replace(choice, algorithm="rtn")  # calibration runs a decoder alone
    if no_text:
        choice = _rounded_without_text(choice, options.precision, target=target)
        choice = finer_without_text(choice, matrices_of(source.module))
    warnings: tuple[str, ...] = ()
    if mixed or any(choice.formats.values()):
        uncovered = describe_uncovered(source.module, matrices_of(source.module))
        warnings = () if uncovered is None else (uncovered,)
        again = describe_second_rounding(source, options.precision)
        warnings = warnings if again is None else (*warnings, again)
    grids = describe_grids(choice, calibration=options.calibration is not None)
    warnings = warnings if grids is None else (*warnings, grids)
    measured = measures_activations(options.precision, target) or choice.balanced
    if not mixed and not choice.calibrated and not measured:
        if options.calibration is not None and not no_text and choice.algorithm != "grid":
            raise InputError(
                f"The precision {options.precision.name} uses no calibration text for the target {target}",
                received=f"--calibration {options.calibration.words}",
                allowed="a precision that is calibrated",
                fix="Leave it out, or use --precision int4.",
            )
        return Prepared(options=options, choice=choice, data=None, warnings=warnings)
    data = prepare_calibration_data(
        source,
        options.calibration,
        evaluation=evaluation,
        windows=MIX_WINDOWS if mixed else WINDOWS if choice.calibrated else MEASURED_WINDOWS,
        shares=MIX_SHARES if mixed else None if choice.calibrated else RANGE_SHARES,
    )
    check_windows = check_windows_of(data) if mixed else {}
    if options.sensitivity is not None:
        check_sensitivity_file(options.sensitivity, data)
    walks = mixed and options.sensitivity is None
    walked = tuple(walked_formats(source, target=target, keep=options.keep)) if walks else ()
    return Prepared(
        options=options, choice=choice, data=data, warnings=warnings, check_windows=check_windows, walked=walked
    )


def _rounded_without_text(choice: FormatChoice, precision: Precision, *, target: str) -> FormatChoice:
    """The choice for `--calibration none`: what calibration text would decide is rounded to the nearest.

    Raises:
        InputError: a precision that cannot do without text.
    """
    by_text = choice.calibrated and choice.algorithm != "gptq"
    if precision.name == MIXED or by_text or measures_activations(precision, target):
        raise InputError(
            f"The precision {precision.name} for the target {target} needs to know the layers' inputs",
            received=f"--calibration {NONE}",
            allowed=f"{NONE} with --precision int8 or int4 for ort-cpu or portable, where weights alone are rounded",
            fix="Leave it out for the built-in mixture, or choose one of these.",
        )
    return replace(choice, algorithm="rtn") if choice.calibrated or choice.balanced else choice


def complete_prepared(source: Source, prepared: Prepared, *, stages: Stages) -> Prepared:
    """The same with the model's own writing among the calibration windows, which is the last thing that they need.

    Args:
        stages: has a step for it where there is something to write.
    """
    if prepared.data is None or prepared.data.unwritten is None:
        return prepared
    check_finite_weights(source.module)
    with stages.stage("calibration text"):
        data = write_calibration_data(source, prepared.data, resume=prepared.resume, progress=stages.advance)
    return replace(prepared, data=data, check_windows=check_windows_of(data) if prepared.check_windows else {})


def _refuse_without_stack(source: Source, precision: Precision) -> None:
    """Raise InputError for what is chosen layer by layer, of a module that has no stack of them."""
    if precision.name == MIXED or isinstance(precision.layers, Int8MatmulFormat):
        if find_stack(source.module) is not None:
            return
        raise InputError(
            f"The precision {precision.name} is chosen layer by layer, and {type(source.module).__name__} has no "
            "nn.ModuleList of layers of which each reads what the one before gives",
            received=f"--precision {precision.name}",
            allowed=", ".join(
                name
                for name, other in PRECISIONS.items()
                if name not in (MIXED, *KEPT) and not isinstance(other.layers, Int8MatmulFormat)
            ),
            fix="Choose one of these.",
        )


def pass_context(
    prepared: Prepared, quantized: Mapping[str, Quantized], *, target: str, max_positions: int | None
) -> PassContext:
    """What the passes of a recipe need to know; a half precision's part is empty elsewhere.

    Args:
        quantized: weights in integers, by parameter name.
        max_positions: of the model; None for any number.
    """
    precision = prepared.options.precision
    half = precision.half or computed_half(precision, target)
    windows = None
    if half is not None and prepared.data is not None:
        windows = prepared.data.windows.as_list()[:MEASURED_WINDOWS]
    # A choice with integers lists all layers; what it leaves out becomes half like everything else.
    kept = () if precision.half is None else prepared.choice.formats
    return PassContext(
        target=target,
        max_positions=max_positions,
        quantized=quantized,
        half=half,
        kept=frozenset(f"{name}.weight" for name in kept),
        windows=windows,
    )


def half_record(prepared: Prepared) -> dict[str, Any]:
    """Format, the weights that the user kept and the text that activations were measured on, for the manifest."""
    precision = prepared.options.precision
    if precision.half is None:
        return {}
    kept = {"kept": sorted(prepared.choice.formats)} if prepared.choice.formats else {}
    return {
        "format": precision.half,
        **kept,
        **({} if prepared.data is None else {"calibration": prepared.data.record}),
    }
