"""A request together with its loaded checkpoint: whatever can be refused is, before anything long begins.

An export and its dry run share it, so that what one of them accepts the other does not refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jisu.exporter.estimates.size_estimate import refuse_unreachable_size
from jisu.exporter.gate.evaluation_text import EvaluationText, read_evaluation_text
from jisu.exporter.gate.open_candidate import refuse_unprovable
from jisu.exporter.jobs.output_path import scratch_folder
from jisu.exporter.jobs.stages import Stages
from jisu.exporter.packaging.artifact_files import installed_versions
from jisu.exporter.packaging.staging import check_place
from jisu.exporter.passes.recipes import recipe_for
from jisu.exporter.passes.steps import Step
from jisu.exporter.precision.precision import Precision
from jisu.exporter.quantization.prepared import Prepared, prepare_quantization
from jisu.exporter.request import ExportRequest
from jisu.exporter.request_checks import check_model_kind
from jisu.exporter.sources.compute_device import check_device
from jisu.exporter.sources.kinds import folder_of
from jisu.exporter.sources.worker_source import WorkerSource, worker_source

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """A request that has been checked against its loaded checkpoint.

    Attributes:
        held_out: the text that quality is measured on.
        prepared: how the weights are quantized, and the calibration text.
        steps: the recipe.
        stages: reports the progress.
    """

    request: ExportRequest
    source: Source
    held_out: EvaluationText
    prepared: Prepared
    steps: tuple[Step, ...]
    stages: Stages

    @property
    def target(self) -> str:
        return self.request.target

    @property
    def precision(self) -> Precision:
        return self.request.precision_spec


def resume_key(job: ExportJob) -> dict[str, Any]:
    """What the calibrated weights of a job depend on, by part, for `exporter.jobs.resume_folder`."""
    data = job.prepared.data
    origin = {key: value for key, value in job.source.provenance.items() if key not in ("name", "licence")}
    return {
        "the checkpoint": origin,
        "the precision or one of its options": {
            **job.prepared.choice.to_record(),
            "keep": sorted(job.prepared.options.keep),  # of a mixed precision, whose choice comes later
        },
        "the calibration text": None if data is None else {**data.record, "windows_sha256": data.windows.sha256},
        "the target": job.target,
        "the device": job.request.device,
        "a version": installed_versions(),
    }


def check_request(request: ExportRequest) -> EvaluationText:
    """Check what can be checked without the checkpoint, and read the text that quality is measured on.

    Raises:
        InputError: an unusable place or text, a CPU on which the artifact could not be verified, or no such device.
    """
    if request.assume_vnni:
        refuse_unprovable()
    check_device(request.device)
    if request.ray is not None:
        name_for_workers(request)
    check_place(request.folder, checkpoint=folder_of(request.checkpoint), overwrite=request.overwrite)
    return read_evaluation_text(request.evaluation)


def name_for_workers(request: ExportRequest) -> WorkerSource:
    """The checkpoint of a request for the workers of a cluster; raises InputError for objects in memory."""
    return worker_source(
        request.checkpoint,
        tokenizer=request.tokenizer,
        revision=request.revision,
        allow_pickle=request.allow_pickle,
        ignore_weights=request.ignore_weights,
        adapters=request.adapters,
        pooling=request.pooling,
        paged=True,
    )


def load_checkpoint(request: ExportRequest, *, outline: bool = False) -> Source:
    """Load the checkpoint; raises as `exporter.sources.load_source` does, which also explains ``outline``."""
    from jisu.exporter.sources import load_source

    return load_source(
        request.checkpoint,
        revision=request.revision,
        allow_pickle=request.allow_pickle,
        ignore_weights=request.ignore_weights,
        adapters=request.adapters,
        outline=outline,
        tokenizer=request.tokenizer,
        scratch=None if outline else scratch_folder(request.folder),
        pooling=request.pooling,
        reranking=request.reranking,
    )


def prepare_job(
    request: ExportRequest, source: Source, held_out: EvaluationText, *, stages: Stages | None = None
) -> ExportJob:
    """Check the options against the checkpoint and read the calibration text.

    Args:
        stages: of the job; silent ones when None.

    Raises:
        InputError: options that this model cannot take, or a text or a size that cannot be used.
    """
    check_model_kind(request, source)
    target = request.target
    steps = recipe_for(target, request.precision_spec.name, source.model_kind, generates=source.generates)
    prepared = prepare_quantization(source, request.options, evaluation=held_out.text, target=target)
    refuse_unreachable_size(source, prepared, target=target)
    return ExportJob(
        request=request,
        source=source,
        held_out=held_out,
        prepared=prepared,
        steps=steps,
        stages=stages or Stages(),
    )
