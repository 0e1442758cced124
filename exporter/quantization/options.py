"""What a user asked of the weights -> what is to be done, checked before anything long begins, and then done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.contract.errors import InputError
from exporter.estimates.size_estimate import refuse_unreachable_size
from exporter.precision.half_precision import MEASURED_WINDOWS, measures_activations
from exporter.precision.precision import KEPT, MIXED, PRECISIONS, Precision, ProductFormat
from exporter.quantization.calibration_data import WINDOWS, CalibrationData, read_calibration_data
from exporter.quantization.keep import describe_kept, keep_quantization
from exporter.quantization.matrices import describe_uncovered, matrices_of
from exporter.quantization.mixed_precision import Goal, Measured, find_mix
from exporter.quantization.quantize_source import QuantizedWeights, quantize_source
from exporter.quantization.sensitivity import FLOAT, check_sensitivity_file, measure_sensitivity, split_windows
from exporter.quantization.weight_formats import QuantizationPlan, plan_quantization
from exporter.sources.layer_stack import find_stack

if TYPE_CHECKING:
    from exporter.contract.artifact import Artifact
    from exporter.gate.evaluation_text import EvaluationText
    from exporter.jobs.stages import Stages
    from exporter.sources.source import Source

# A mix needs windows to calibrate, to score single layers and to check whole mixes with.
MIX_WINDOWS = WINDOWS * 11 // 8
# Manifest and timings of a mix, which are not written yet when it is measured.
_RECORDS = 250_000
# The portable graph gathers rows of an embedding with ONNX's own operator, which takes whole bytes only. ONNX Runtime's
# for GPUs takes 4 bits, but reads their zero points as if no row of them were padded to whole bytes (1.31).
_TABLE_LABELS = {"portable": (FLOAT, "int8"), "ort-cuda": (FLOAT, "int8")}
_ALL_TABLE_LABELS = (FLOAT, "int8", "int4")


@dataclass(frozen=True, kw_only=True)
class QuantizationOptions:
    """The user's wishes, as `exporter.pipeline.export` documents them.

    Raises:
        InputError: wishes that do not go together.
    """

    precision: Precision
    goal: Goal = field(default_factory=Goal)
    keep: tuple[str, ...] = ()
    block_size: int | None = None
    symmetric: bool | None = None
    calibration: Path | None = None
    calibration_field: str = "text"
    sensitivity: Path | None = None
    checkpoint: str | Path = ""

    def __post_init__(self) -> None:
        mixed = self.precision.name == MIXED
        if mixed and self.goal == Goal():
            raise InputError(
                "A mix of precisions needs to know what it is for",
                allowed="--max-kl, --target-size, or both",
                fix="Add --max-kl 0.05, or choose --precision int8 or int4.",
            )
        if self.precision.name == KEPT and Path(self.checkpoint).suffix.lower() != ".gguf":
            raise InputError(
                "Only a GGUF file has a quantization that could be kept",
                received=self.checkpoint,
                allowed="a .gguf file",
                fix="Leave --keep-quantization out, or choose --precision int8 or int4.",
            )
        size = self.goal.max_bytes
        if size is not None and size <= 0:
            raise InputError(
                "The target size is no size", received=size, allowed="above 0", fix="Use 90MB or the like."
            )
        given = {
            "--target-size": not mixed and size is not None,
            "--sensitivity": not mixed and self.sensitivity is not None,
            "--block-size": mixed and self.block_size is not None,
            "--symmetric or --asymmetric": mixed and self.symmetric is not None,
        }
        unused = [name for name, is_unused in given.items() if is_unused]
        if unused:
            raise InputError(
                f"The precision {self.precision.name} does not use these options",
                received=", ".join(unused),
                allowed="--target-size and --sensitivity with a mix; block size and symmetry with a single precision",
                fix="Leave them out.",
            )


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Options that have been checked against a source.

    Attributes:
        warnings: what the user would want to know before; also for the manifest.
        check_windows: of a mix, int64 [T] each.
    """

    options: QuantizationOptions
    plan: QuantizationPlan
    data: CalibrationData | None
    warnings: tuple[str, ...] = ()
    check_windows: list[Any] = field(default_factory=list)


def table_labels(target: str) -> tuple[str, ...]:
    """Formats that a target can read an embedding in, of those that a mix chooses from."""
    return _TABLE_LABELS.get(target, _ALL_TABLE_LABELS)


def prepare_quantization(
    source: Source, options: QuantizationOptions, *, evaluation: EvaluationText, target: str = "ort-cpu"
) -> Ready:
    """Make the plan and read the text, so that whatever is wrong with them is known before anything long begins.

    Raises:
        InputError: a target size that nothing reaches; see `exporter.quantization.weight_formats.plan_quantization` and
            `exporter.quantization.calibration_data.read_calibration_data` for the rest.
    """
    mixed = options.precision.name == MIXED
    _refuse_without_stack(source, options.precision)
    plan = QuantizationPlan(formats={}, algorithm="none")
    if not mixed:
        changed = bool(options.keep) or options.block_size is not None or options.symmetric is not None
        changed |= options.precision.layers is not None
        matrices = matrices_of(source.module) if changed else []
        plan = plan_quantization(
            matrices,
            options.precision,
            keep=options.keep,
            block_size=options.block_size,
            symmetric=options.symmetric,
        )
    warnings: tuple[str, ...] = ()
    if mixed or any(plan.formats.values()):
        uncovered = describe_uncovered(source.module, matrices_of(source.module))
        warnings = () if uncovered is None else (uncovered,)
    measured = measures_activations(options.precision, target)
    if not mixed and not plan.calibrated and not measured:
        if options.calibration is not None:
            raise InputError(
                f"The precision {options.precision.name} uses no calibration text for the target {target}",
                received=f"--calibration {options.calibration}",
                allowed="a precision that is calibrated",
                fix="Leave it out, or use --precision int4.",
            )
        return Ready(options=options, plan=plan, data=None, warnings=warnings)
    data = read_calibration_data(
        source,
        options.calibration,
        field=options.calibration_field,
        evaluation=evaluation.text,
        windows=MIX_WINDOWS if mixed else WINDOWS if plan.calibrated else MEASURED_WINDOWS,
    )
    check_windows = split_windows(data)["check"] if mixed else []
    if options.sensitivity is not None:
        check_sensitivity_file(options.sensitivity, data)
    ready = Ready(options=options, plan=plan, data=data, warnings=warnings, check_windows=check_windows)
    refuse_unreachable_size(source, ready, target=target)
    return ready


def _refuse_without_stack(source: Source, precision: Precision) -> None:
    """Raise InputError for what is chosen layer by layer, of a module that has no stack of them."""
    if precision.name == MIXED or isinstance(precision.layers, ProductFormat):
        if find_stack(source.module) is not None:
            return
        raise InputError(
            f"The precision {precision.name} is chosen layer by layer, and {type(source.module).__name__} has no "
            "nn.ModuleList of layers of which each reads what the one before gives",
            received=f"--precision {precision.name}",
            allowed=", ".join(
                name
                for name, other in PRECISIONS.items()
                if name not in (MIXED, KEPT) and not isinstance(other.layers, ProductFormat)
            ),
            fix="Choose one of these.",
        )


def run_quantization(
    source: Source, ready: Ready, *, measure: Callable[[QuantizedWeights], Measured], target: str, stages: Stages
) -> QuantizedWeights:
    """Quantize as was prepared, and say what was warned of.

    Args:
        measure: builds an artifact of quantized weights and measures it; only a mix needs it.
    """
    for warning in ready.warnings:
        stages.say(f"{warning}.")
    found = _run_quantization(source, ready, measure=measure, target=target, stages=stages)
    if not ready.warnings or not found.record:
        return found
    return replace(found, record={**found.record, "notes": [*found.record.get("notes", []), *ready.warnings]})


def _run_quantization(
    source: Source, ready: Ready, *, measure: Callable[[QuantizedWeights], Measured], target: str, stages: Stages
) -> QuantizedWeights:
    options = ready.options
    if options.precision.name == KEPT:
        with stages.stage("quantize"):
            kept = keep_quantization(
                source, options.checkpoint, whole_byte_tables=target == "portable", progress=stages.advance
            )
        for line in describe_kept(kept.record):
            stages.say(line)
        return kept
    if options.precision.name != MIXED:
        with stages.stage("quantize"):
            return quantize_source(source, ready.plan, data=ready.data, progress=stages.advance)
    assert ready.data is not None
    data = ready.data
    with stages.stage("sensitivity"):
        sensitivity = measure_sensitivity(
            source, data, path=options.sensitivity, target=target, progress=stages.advance
        )
    statistics = split_windows(data)["statistics"]
    with stages.stage("mix"):
        mix = find_mix(
            sensitivity,
            options.goal,
            quantize=lambda plan: quantize_source(source, plan, data=data, windows=statistics, progress=stages.advance),
            measure=measure,
            keep=options.keep,
            table_labels=table_labels(target),
            say=stages.say,
        )
    return QuantizedWeights(by_name=mix.quantized.by_name, record={**mix.quantized.record, "mix": mix.record})


def measure_artifact(artifact: Artifact, source: Source, windows: list[Any]) -> Measured:
    """Mean KL divergence of an artifact from its source on some windows, and its size."""
    from exporter.gate.quality import measure_quality
    from exporter.gate.reference import reference_of
    from runtimes.backends.registry import open_backend

    backend = open_backend("ort-cpu", artifact)
    try:
        quality = measure_quality(backend, reference_of(source), windows)
    finally:
        backend.close()
    return Measured(kl=quality.mean_kl, bytes=artifact.size + _RECORDS)
