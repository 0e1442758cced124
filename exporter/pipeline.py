"""Checkpoint -> verified artifact, step by step: load, trace, optimize, write, prove, publish.

Nothing appears under the requested name before the gate has accepted it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.contract.artifact import MANIFEST, REJECTED, TIMINGS, Artifact, Manifest, record_files
from exporter.contract.errors import GateRejectedError, InputError, JisuError
from exporter.estimates.disk_space import disk_space, require_disk
from exporter.estimates.size_estimate import refuse_unreachable_size
from exporter.gate.evaluation_text import EvaluationText, read_evaluation_text
from exporter.gate.open_candidate import refuse_unprovable
from exporter.gate.prove import prove
from exporter.jobs.stages import Stages
from exporter.packaging.folder_files import write_folder_files
from exporter.packaging.staging import check_place, publish, remove_stale, replace_folder, staging_folder
from exporter.passes.recipes import encoder_steps, recipe_for
from exporter.passes.run_recipe import run_recipe
from exporter.passes.steps import StepRecord
from exporter.precision.half_precision import computed_half
from exporter.precision.precision import Precision, kernels_of, precision_named
from exporter.quantization.mixed_precision import Measured
from exporter.quantization.prepared import half_record, pass_context, prepare_quantization
from exporter.quantization.quantize_source import QuantizedWeights
from exporter.quantization.run import run_quantization
from exporter.request import ExportRequest
from exporter.request_checks import check_task
from exporter.sources.evaluation_mode import evaluation_mode
from exporter.sources.kinds import folder_of
from exporter.tracing.trace_source import trace_source, trace_source_encoder

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

    from exporter.gate import GateResult
    from exporter.sources.source import Source

# Written instead of the manifest when the gate says no: a folder with it is evidence, never an artifact.
REJECTED_SUFFIX = ".rejected"
_VERSIONED = ("jisu", "torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu")
# Manifest and timings of a mix, which are not written yet when it is measured.
_RECORDS = 250_000
# How Rust spells an error of the operating system.
_OS_ERROR = re.compile(r"\(os error \d+\)|No space left on device|File too large|Disk quota exceeded")


def export(
    checkpoint: str | Path | nn.Module,
    out: str | Path,
    *,
    tokenizer: Any = None,
    target: str = "ort-cpu",
    precision: str | None = None,
    target_size: int | None = None,
    keep_quantization: bool = False,
    calibration: str | Path | None = None,
    calibration_field: str = "text",
    evaluation: str | Path | None = None,
    keep: Sequence[str] = (),
    block_size: int | None = None,
    symmetric: bool | None = None,
    sensitivity: str | Path | None = None,
    max_kl: float | None = None,
    min_top1: float | None = None,
    max_perplexity_ratio: float | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] = (),
    adapters: Sequence[str | Path] = (),
    assume_vnni: bool = False,
    stages: Stages | None = None,
) -> Artifact:
    """Export a checkpoint and publish it when it is proved to be the same model.

    Args:
        checkpoint: a Hugging Face folder, a GGUF file, a hub id such as ``org/name``, a factory such as
            ``package.module:build`` that returns an `nn.Module`, or the module itself.
        out: the artifact's folder, which must not exist yet.
        tokenizer: of a module or a factory: ``tokenizer.json``, its folder, a `tokenizers.Tokenizer` or a fast
            tokenizer of transformers.
        target: what the graph is lowered for, one of the targets of `exporter.passes.recipes.RECIPES`.
        precision: one of `exporter.precision.precision.PRECISIONS`; when None, fp32, or ``mixed`` where ``max_kl`` or
            ``target_size`` is given.
        target_size: most bytes of the whole artifact; the mix of formats that is closest to the source is chosen.
        keep_quantization: take over the integers of a GGUF file or of a quantized folder instead of quantizing anew.
        calibration: text for the precisions that are calibrated: plain text, JSONL, CSV or a dataset's folder; the
            first half of CPython's own prose when None.
        calibration_field: the column or key that holds the text of a CSV, JSONL or dataset.
        evaluation: text that the quality figures are measured on; the second half of CPython's own prose when None.
        keep: patterns of module paths whose weights stay float32, such as ``*.down_proj``.
        block_size: input features that share a scale; the precision's own when None.
        symmetric: whether zero points are the middle of the codes; the precision's own choice when None.
        sensitivity: file that keeps what a mix is chosen by, so that the next export need not measure it again.
        max_kl: most mean KL divergence from the source on held-out text, in nats; a default per precision when None.
            Without a precision, the smallest mix of formats within it is chosen.
        min_top1: least share of tokens on which the most likely next token agrees, 0..1.
        max_perplexity_ratio: most perplexity over the source's.
        revision: branch, tag or commit of a hub id.
        allow_pickle: also read pickled weights, through torch's restricted unpickler.
        ignore_weights: patterns of stored tensors to leave out, such as ``*.mtp.*``: those that it holds and
            its model has no place for, which is refused without it.
        assume_vnni: of w8a8, let weights use codes with which the int8 matmuls of x86 CPUs without VNNI overflow; the
            artifact is refused there.
        adapters: folders of LoRA adapters (PEFT), merged into the weights one after the other.
        stages: collects the time and peak memory of each step; a silent one when None.

    Returns:
        The published artifact.

    Raises:
        InputError: bad options, checkpoint or place; nothing was written.
        GateRejectedError: the result is not the same model; it lies in ``<out>.rejected`` with the numbers.
    """
    stages = stages or Stages()
    request = ExportRequest(
        checkpoint=checkpoint,
        out=Path(out),
        tokenizer=tokenizer,
        target=target,
        precision=precision,
        target_size=target_size,
        keep_quantization=keep_quantization,
        calibration=None if calibration is None else Path(calibration),
        calibration_field=calibration_field,
        evaluation=None if evaluation is None else Path(evaluation),
        keep=keep,
        block_size=block_size,
        symmetric=symmetric,
        sensitivity=None if sensitivity is None else Path(sensitivity),
        max_kl=max_kl,
        min_top1=min_top1,
        max_perplexity_ratio=max_perplexity_ratio,
        revision=revision,
        allow_pickle=allow_pickle,
        ignore_weights=ignore_weights,
        adapters=adapters,
        assume_vnni=assume_vnni,
    )
    return _export(request, stages)


def _export(request: ExportRequest, stages: Stages) -> Artifact:
    out = request.out
    if request.assume_vnni:
        refuse_unprovable()
    check_place(out, checkpoint=folder_of(request.checkpoint))
    for stale in remove_stale(out):
        stages.say(f"Removed {stale}, which an export that was killed left behind.")
    held_out = read_evaluation_text(request.evaluation)
    with stages.stage("load"):
        source = _load(request)
    for note in (*source.notes, *source.account.notes()):
        stages.say(note)
    # A module that was handed over goes on being trained, maybe: it gets its mode back.
    with evaluation_mode(source.module):
        return _export_source(source, request, held_out, stages)


def _export_source(source: Source, request: ExportRequest, held_out: EvaluationText, stages: Stages) -> Artifact:
    out, wanted = request.out, request.wanted
    target, precision = request.target, wanted.name
    check_task(request, source)
    steps = recipe_for(target, precision, source.task)
    require_disk(*disk_space(out, source), out=out)
    prepared = prepare_quantization(source, request.options, evaluation=held_out.text, target=target)
    refuse_unreachable_size(source, prepared, target=target)
    with stages.stage("trace"):
        model = trace_source(source, say=stages.say)
        encoder = trace_source_encoder(source)

    def build(folder: Path, model: ir.Model, quantized: QuantizedWeights) -> tuple[Artifact, list[StepRecord]]:
        positions = source.model.max_positions
        context = pass_context(prepared, quantized.by_name, target=target, max_positions=positions)
        recipe = run_recipe(model, steps, context)
        if encoder is not None:
            found = run_recipe(encoder, encoder_steps(steps), context)
            recipe += [replace(record, graph="encoder") for record in found]
        manifest = _write(folder, model, source, recipe, target=target, precision=precision, encoder=encoder)
        manifest = replace(manifest, kernels=kernels_of(wanted))
        return Artifact(folder=folder, manifest=manifest), recipe

    def measure(traced: ir.Model, quantized: QuantizedWeights) -> Measured:
        with staging_folder(out) as folder:
            return _measure_candidate(build(folder, traced.clone(), quantized)[0], source, prepared.check_windows)

    quantized = run_quantization(source, prepared, measure=partial(measure, model), target=target, stages=stages)
    with staging_folder(out) as staged:
        with stages.stage("optimize and write"):
            staged_artifact, recipe = build(staged, model, quantized)
            record = _quantization_record(quantized.record or half_record(prepared), wanted, held_out)
            manifest = replace(staged_artifact.manifest, quantization=record)
            del model
        for step in recipe:
            if step.missed:
                stages.say(f"{step.name}: {step.note}.")
        with stages.stage("prove"):
            result = prove(
                staged_artifact,
                source,
                budget=wanted.budget,
                evaluation=held_out.given,
                intended=quantized.by_name,
                write_files=partial(
                    write_folder_files, source=source, signature=manifest.signature, target=manifest.target
                ),
                stages=stages,
            )
        manifest = replace(manifest, gate=result.to_dict())
        with _refusing_to_write(out):
            _write_timings(staged, stages, recipe)
            if not result.accepted:
                raise _rejected(staged, out, manifest, result)
            (staged / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            with stages.stage("publish"):
                publish(staged, out)
    return Artifact(folder=out, manifest=manifest)


def _measure_candidate(artifact: Artifact, source: Source, windows: list[Any]) -> Measured:
    """Mean KL divergence of an artifact from its source on some windows, and its size."""
    from exporter.gate.open_candidate import open_candidate
    from exporter.gate.quality import measure_quality
    from exporter.gate.reference import reference_of

    backend = open_candidate(artifact)
    try:
        quality = measure_quality(backend, reference_of(source), windows)
    finally:
        backend.close()
    return Measured(kl=quality.mean_kl, bytes=artifact.size + _RECORDS)


def _load(request: ExportRequest) -> Source:
    from exporter.sources import load_source

    return load_source(
        request.checkpoint,
        revision=request.revision,
        allow_pickle=request.allow_pickle,
        ignore_weights=request.ignore_weights,
        adapters=request.adapters,
        tokenizer=request.tokenizer,
    )


def _quantization_record(what: dict[str, Any], precision: Precision, evaluation: EvaluationText) -> dict[str, Any]:
    if not what:
        return {}
    record = {**what, "budget": asdict(precision.budget)}
    return {**record, **({"evaluation": evaluation.to_record()} if evaluation.given else {})}


def _write(
    folder: Path,
    model: ir.Model,
    source: Source,
    recipe: list[StepRecord],
    *,
    target: str,
    precision: str,
    encoder: ir.Model | None = None,
) -> Manifest:
    """Write graphs, weights and tokenizer, and say in a manifest (without gate) what they are."""
    from exporter.graph.cpu_graph import write_cpu_graph
    from exporter.graph.graph_signature import signature_of
    from exporter.graph.weights_file import save_encoder, save_graph

    signature = signature_of(model.graph)
    with _refusing_to_write(folder):
        save_graph(model, folder)
        if encoder is not None:
            save_encoder(encoder, folder, decoder=model)
        write_folder_files(folder, source, signature=signature, target=target)
        if computed_half(precision_named(precision), target) is not None:
            write_cpu_graph(folder)
        files = record_files(folder)
    return Manifest(
        task=source.task,
        target=target,
        precision=precision,
        model=source.model,
        signature=signature,
        recipe=[record.to_dict() for record in recipe],
        gate={},
        source={**source.provenance, "account": source.account.to_record()},
        versions=_versions(),
        files=files,
    )


@contextlib.contextmanager
def _refusing_to_write(place: Path) -> Iterator[None]:
    """Turn a full disk or a folder that takes no files into an InputError."""
    try:
        yield
    except JisuError:
        raise
    except Exception as error:
        # The tokenizers package reports a full disk by an Exception of no class of its own (0.22).
        if not isinstance(error, OSError) and not (type(error) is Exception and _OS_ERROR.search(str(error))):
            raise
        raise InputError(
            f"The artifact cannot be written to {place.parent}",
            received=getattr(error, "strerror", None) or error,
            allowed="a folder with room for it",
            fix="Make room or choose another --out.",
        ) from error


def _write_timings(folder: Path, stages: Stages, recipe: list[StepRecord]) -> None:
    passes = [{"pass": record.name, "seconds": record.seconds} for record in recipe]
    text = json.dumps({**stages.to_dict(), "passes": passes}, indent=2)
    (folder / TIMINGS).write_text(text + "\n", encoding="utf-8")


def _rejected(staged: Path, out: Path, manifest: Manifest, result: GateResult) -> GateRejectedError:
    """Move what was written aside, with the numbers, and make the error that says why."""
    (staged / REJECTED).write_text(manifest.to_json(), encoding="utf-8")
    place = out.with_name(out.name + REJECTED_SUFFIX)
    if (place / REJECTED).is_file():
        replace_folder(staged, place)  # an earlier rejection of ours
    else:
        if place.exists():
            place = staged.with_suffix(REJECTED_SUFFIX)
        staged.rename(place)
    error = GateRejectedError(
        f"The exported model is not the model it was made from. {result.summary}",
        fix=f"Nothing was published to {out}; the rejected files and all numbers ({REJECTED}) are in {place}.",
    )
    error.gate = manifest.gate
    return error


def _versions() -> dict[str, str]:
    """Versions of the packages that had a part in the artifact, those that are installed."""
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
