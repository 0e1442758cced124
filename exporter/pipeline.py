"""Checkpoint -> verified artifact, step by step: load, trace, quantize, optimize, write, verify, publish.

Nothing appears under the requested name before the gate has accepted it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import HEARING, MANIFEST, VISION, Artifact, Manifest
from jisu.exporter.contract.errors import GateRejectedError
from jisu.exporter.contract.source_place import place_of, without_paths
from jisu.exporter.estimates.disk_space import disk_space, require_disk
from jisu.exporter.estimates.size_estimate import estimate_size
from jisu.exporter.export_job import (
    ExportJob,
    check_request,
    load_checkpoint,
    name_for_workers,
    prepare_job,
    resume_key,
)
from jisu.exporter.gate.prove import prove
from jisu.exporter.jobs.memory_limit import memory_limit
from jisu.exporter.jobs.resume_folder import open_resume_folder
from jisu.exporter.jobs.stages import Stages
from jisu.exporter.packaging.artifact_files import (
    installed_versions,
    refusing_to_write,
    write_artifact_files,
    write_timings,
)
from jisu.exporter.packaging.folder_files import write_folder_files
from jisu.exporter.packaging.rejection import keep_rejected
from jisu.exporter.packaging.staging import publish, remove_stale, staging_folder
from jisu.exporter.passes.recipes import FEATURE_HALF, FEATURE_STEPS, encoder_steps, feature_integer_steps
from jisu.exporter.passes.run_recipe import PassContext, run_recipe
from jisu.exporter.passes.steps import StepRecord
from jisu.exporter.precision.half_precision import computed_half
from jisu.exporter.precision.precision import HalfType, WeightFormat, kernels_of
from jisu.exporter.quantization.feature_weights import (
    FEATURE_GRAPHS,
    describe_feature_format,
    feature_format,
    graphs_of_features,
    round_feature_weights,
)
from jisu.exporter.quantization.mixed_precision import Measured
from jisu.exporter.quantization.prepared import complete_prepared, half_record, pass_context
from jisu.exporter.quantization.quantize_source import QuantizedWeights
from jisu.exporter.quantization.run import run_quantization
from jisu.exporter.request import ExportRequest, with_arguments_of
from jisu.exporter.sources.compute_device import CPU, computing_on
from jisu.exporter.sources.evaluation_mode import evaluation_mode
from jisu.exporter.sources.paged_weights import is_large
from jisu.exporter.sources.worker_source import Workers, task_bytes
from jisu.exporter.tracing.trace_source import (
    trace_source,
    trace_source_audio,
    trace_source_encoder,
    trace_source_hearing,
    trace_source_vision,
)

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Quantized
    from jisu.exporter.gate import GateResult
    from jisu.exporter.sources.paged_weights import PagedWeights

# Manifest and timings of mixed precision, which are not written yet when it is measured.
_RECORDS = 250_000
# What two exports of the same checkpoint, options and versions may differ in when CPUs differ: vector instructions and
# numbers of threads add floats in another order. On one machine all bytes are the same.
_MEASURED = ("figures of the gate, in their last digits",)
_CALIBRATED = (*_MEASURED, "scales and codes of calibrated layers, where a sum of activations rounds another way")


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """A traced source, which the passes then edit; ``encoder``, ``vision`` and ``hearing`` are None where it has none.

    ``audio`` makes sound into what a model that hears reads, and stays as it is; None for any other.
    """

    model: ir.Model
    encoder: ir.Model | None
    vision: ir.Model | None
    hearing: ir.Model | None
    audio: ir.Model | None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What stands before the gate: files in a staged folder, what the passes did, and the integers they must hold."""

    artifact: Artifact
    recipe: list[StepRecord]
    intended: Mapping[str, Quantized]


@with_arguments_of(ExportRequest)
def export(request: ExportRequest) -> Artifact:
    """Export a checkpoint and publish it when it is verified to be the same model.

    Called as ``export(checkpoint, out, precision="int8")``, with the arguments of `exporter.request.ExportRequest`.

    Returns:
        The published artifact.

    Raises:
        InputError: bad options, checkpoint or place; nothing was written.
        GateRejectedError: the result is not the same model; it lies in ``<out>.rejected`` with the numbers.
    """
    return export_request(request)


def export_request(request: ExportRequest) -> Artifact:
    """Export what is requested; the same as `export`, whose arguments are a request's."""
    stages = request.stages or Stages()
    request = replace(request, stages=stages)
    require_memory(request)
    paged: list[PagedWeights] = []

    def relieve() -> None:
        for weights in paged:
            weights.let_go()

    with memory_limit(request.max_memory, relieve=relieve, doing=lambda: stages.current), _loaded(request) as job:
        paged += [] if job.source.paged is None else [job.source.paged]
        graphs = _trace(job)
        with _resumable(job) as job, _on_cluster(job) as job, computing_on(request.device, job.source.module):
            job = _complete(job)
            quantized = _quantize(job, graphs)
            with staging_folder(request.folder) as staged:
                with job.stages.stage("optimize and write"):
                    recipe = _optimize(job, graphs, quantized)
                    candidate = _write(job, graphs, quantized, recipe, staged)
                del graphs  # its weights lie in the files, which the gate reads
                result = _verify(job, candidate)
                return _publish(job, candidate, result)


def require_memory(request: ExportRequest) -> None:
    """Raise InputError when an export is estimated to need more memory than is allowed; reads no weights."""
    from jisu.exporter.dry_run import estimate_export, require_memory_of

    if request.max_memory is None:
        return
    require_memory_of(estimate_export(request), request.max_memory)


@contextlib.contextmanager
def _loaded(request: ExportRequest) -> Iterator[ExportJob]:
    """The checkpoint, loaded and checked, in evaluation mode until the export ends."""
    stages = request.stages or Stages()
    held_out = check_request(request)
    for stale in remove_stale(request.folder):
        stages.say(f"Removed {stale}, which an export that was killed left behind.")
    with stages.stage("load"):
        source = load_checkpoint(request)
    for note in (*source.notes, *source.account.notes()):
        stages.say(note)
    with evaluation_mode(source.module):
        job = prepare_job(request, source, held_out, stages=stages)
        size = estimate_size(source, job.prepared, target=job.target) if is_large(source) else None
        require_disk(*disk_space(request.folder, source, job.prepared, size), out=request.folder)
        if stages.watched:
            expect_stages(job)
        yield job


def expect_stages(job: ExportJob) -> None:
    """Tell whoever watches an export how long its stages are estimated to take."""
    from jisu.exporter.estimates.cost_estimate import estimate_cost

    size = estimate_size(job.source, job.prepared, target=job.target)
    costs = estimate_cost(job.source, job.prepared, size, limit=job.request.max_memory)
    job.stages.expect({cost.name: cost.seconds for cost in costs})


def _trace(job: ExportJob) -> Graphs:
    with job.stages.stage("trace"):
        return Graphs(
            model=trace_source(job.source, say=job.stages.say),
            encoder=trace_source_encoder(job.source),
            vision=trace_source_vision(job.source),
            hearing=trace_source_hearing(job.source),
            audio=trace_source_audio(job.source),
        )


@contextlib.contextmanager
def _resumable(job: ExportJob) -> Iterator[ExportJob]:
    """The job with what an export like it has finished; removed when it comes to its end, accepted or rejected.

    Small models are done before anybody would have looked, and keep nothing.
    """
    folder = None
    if job.source.paged is not None and job.prepared.data is not None:
        with refusing_to_write(job.request.folder):
            folder = open_resume_folder(job.request.folder, resume_key(job))
    if folder is None:
        yield job
        return
    if folder.differs:
        job.stages.say(f"An export to this place was ended before its time; {folder.differs[0]} differs: begun anew.")
    elif folder.names:
        job.stages.say(f"Resumed: {len(folder.names)} finished parts of an export that was ended are taken up.")
    try:
        yield replace(job, prepared=replace(job.prepared, resume=folder))
    except GateRejectedError:
        folder.discard()
        raise
    except BaseException:
        folder.close()
        raise
    folder.discard()


@contextlib.contextmanager
def _on_cluster(job: ExportJob) -> Iterator[ExportJob]:
    """The job with the workers of the cluster that is requested, connected while the block runs."""
    if job.request.ray is None:
        yield job
        return
    from jisu.exporter.jobs.ray_tasks import cluster

    workers = Workers(source=name_for_workers(job.request), memory_bytes=task_bytes(job.source))
    with cluster(job.request.ray):
        yield replace(job, prepared=replace(job.prepared, workers=workers))


def _complete(job: ExportJob) -> ExportJob:
    """The job with what the model itself writes to be calibrated on, which takes a while."""
    return replace(job, prepared=complete_prepared(job.source, job.prepared, stages=job.stages))


def _quantize(job: ExportJob, graphs: Graphs) -> QuantizedWeights:
    measure = partial(_measure_mix, job, graphs)
    return run_quantization(job.source, job.prepared, measure=measure, target=job.target, stages=job.stages)


def _measure_mix(job: ExportJob, graphs: Graphs, quantized: QuantizedWeights) -> Measured:
    """How far mixed precision diverges from the source, and its size, by files that are written to find out."""
    copies = replace(graphs, model=graphs.model.clone())
    with staging_folder(job.request.folder) as staged:
        recipe = _optimize(job, copies, quantized)
        return _measure(job, _write(job, copies, quantized, recipe, staged).artifact)


def _measure(job: ExportJob, artifact: Artifact) -> Measured:
    from jisu.exporter.estimates.cost_estimate import open_bytes_of
    from jisu.exporter.gate.open_candidate import open_candidate
    from jisu.exporter.gate.quality import measure_quality
    from jisu.exporter.gate.reference import reference_of

    open_bytes = open_bytes_of(job.source, job.prepared, limit=job.request.max_memory)
    backend = open_candidate(artifact, open_bytes=open_bytes)
    try:
        reference = reference_of(job.source)
        by_part = {
            part: measure_quality(backend, reference, windows).mean_kl
            for part, windows in job.prepared.check_windows.items()
        }
    finally:
        backend.close()
    return Measured(kl=max(by_part.values()), by_part=by_part, bytes=artifact.size + _RECORDS)


def _optimize(job: ExportJob, graphs: Graphs, quantized: QuantizedWeights) -> list[StepRecord]:
    """Run the recipe over the graphs, in place."""
    positions = job.source.model.max_positions
    context = pass_context(job.prepared, quantized.by_name, target=job.target, max_positions=positions)
    records = run_recipe(graphs.model, job.steps, context)
    if graphs.encoder is not None:
        steps = encoder_steps(job.steps)
        records += [replace(record, graph="encoder") for record in run_recipe(graphs.encoder, steps, context)]
    for name, graph, file in (("vision", graphs.vision, VISION), ("hearing", graphs.hearing, HEARING)):
        if graph is not None:
            made = _optimize_features(graph, _feature_format(job, file), context, target=job.target)
            records += [replace(record, graph=name) for record in made]
    return records


def _optimize_features(
    graph: ir.Model, form: WeightFormat | HalfType | None, context: PassContext, *, target: str
) -> list[StepRecord]:
    """The recipe of a graph that reads images or hears, in place, and the format of its weights behind it."""
    records = run_recipe(graph, FEATURE_STEPS, replace(context, quantized={}))
    if isinstance(form, WeightFormat):
        rounded = round_feature_weights(graph.graph, form)
        return records + run_recipe(graph, feature_integer_steps(target), replace(context, quantized=rounded))
    if form is not None:
        return records + run_recipe(graph, FEATURE_HALF, replace(context, half=form, kept=frozenset()))
    return records


def _feature_format(job: ExportJob, file: str) -> WeightFormat | HalfType | None:
    return feature_format(job.precision, file, job.prepared.options.keep)


def _write(
    job: ExportJob, graphs: Graphs, quantized: QuantizedWeights, recipe: list[StepRecord], staged: Path
) -> Candidate:
    """Write everything but the manifest, which lacks the gate's verdict."""
    source, target, precision = job.source, job.target, job.precision
    signature, files = write_artifact_files(
        staged,
        graphs.model,
        source,
        target=target,
        encoder=graphs.encoder,
        vision=graphs.vision,
        hearing=graphs.hearing,
        audio=graphs.audio,
        widens_half=computed_half(precision, target) is not None,
        max_shard_size=job.request.max_shard_size,
        written=source.count_read,
    )
    source.let_go()
    manifest = Manifest(
        model_kind=source.model_kind,
        target=target,
        precision=precision.name,
        model=source.model,
        signature=signature,
        recipe=[record.to_dict() for record in recipe],
        gate={},
        quantization=_quantization_record(job, quantized),
        source={**without_paths(source.provenance), "account": source.account.to_record()},
        versions=installed_versions(),
        files=files,
        kernels=kernels_of(precision),
    )
    return Candidate(artifact=Artifact(folder=staged, manifest=manifest), recipe=recipe, intended=quantized.by_name)


def _quantization_record(job: ExportJob, quantized: QuantizedWeights) -> dict[str, Any]:
    """Formats, budget and a text of the user's, for the manifest; nothing where all is float32."""
    record = quantized.record or half_record(job.prepared)
    if not record:
        return {}
    graphs = graphs_of_features(job.source)
    features = {FEATURE_GRAPHS[file]: describe_feature_format(_feature_format(job, file)) for file in graphs}
    evaluation = {"evaluation": job.held_out.to_record()} if job.held_out.requested else {}
    device = {} if job.request.device == CPU else {"device": job.request.device}
    return {
        **record,
        **features,
        **device,
        "budget": asdict(job.precision.budget),
        **evaluation,
        "may_differ_elsewhere": list(_CALIBRATED if job.prepared.data is not None else _MEASURED),
    }


def _verify(job: ExportJob, candidate: Candidate) -> GateResult:
    """Run the gate on the written files, after saying what the passes left as it was."""
    from jisu.exporter.estimates.cost_estimate import open_bytes_of

    for step in candidate.recipe:
        if step.missed:
            job.stages.say(f"{step.name}: {step.note}.")
    signature = candidate.artifact.manifest.signature
    with job.stages.stage("verify"):
        return prove(
            candidate.artifact,
            job.source,
            budget=job.precision.budget,
            evaluation=job.held_out.requested,
            intended=candidate.intended,
            write_files=partial(write_folder_files, source=job.source, signature=signature, target=job.target),
            stages=job.stages,
            workers=job.prepared.workers,
            open_bytes=open_bytes_of(job.source, job.prepared, limit=job.request.max_memory),
        )


def _publish(job: ExportJob, candidate: Candidate, result: GateResult) -> Artifact:
    """Give an accepted candidate its manifest and its name; raises GateRejectedError for any other."""
    staged, out = candidate.artifact.folder, job.request.folder
    manifest = replace(candidate.artifact.manifest, gate=result.to_dict())
    with refusing_to_write(out):
        write_timings(staged, job.stages, candidate.recipe, place=place_of(job.source.provenance))
        if not result.accepted:
            raise keep_rejected(staged, out, manifest, summary=result.summary)
        (staged / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        with job.stages.stage("publish"):
            publish(staged, out, overwrite=job.request.overwrite)
    return Artifact(folder=out, manifest=manifest)
