"""Runs the gate on a written artifact: opens what users will run, and asks what its kind of model and precision ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import (
    CLASSIFICATION,
    EMBEDDING,
    HEARING_GRAPH,
    ONE_PASS_KINDS,
    PAIR_KINDS,
    SPEECH,
    TEXT_TO_TEXT,
    VISION_GRAPH,
)
from jisu.exporter.gate.open_candidate import WITH_VNNI, describe_pieces
from jisu.exporter.gate.opened_sizes import OPEN_BYTES
from jisu.exporter.gate.proving import progress_of, tokenizer_check_of
from jisu.exporter.precision.precision import FLOAT

if TYPE_CHECKING:
    from jisu.calibration.w8a8.matmul import Quantized
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.gate import Budget, Check, GateResult
    from jisu.exporter.gate.exam import Exam
    from jisu.exporter.gate.folder import WriteFiles
    from jisu.exporter.gate.positions import Range
    from jisu.exporter.graph.localize import LayerReference
    from jisu.exporter.jobs.stages import Stages
    from jisu.exporter.sources.source import Source
    from jisu.exporter.sources.worker_source import Workers

# The backend that every graph is run on before it is published.
VERIFIED_ON = "ort-cpu"
# Precisions that are as close to their source with activations of any size as with those of texts. The others diverge
# behind a made past for no fault of a position: w8a8-dynamic of SmolLM2-135M by 2.4 nats, and by 0.01 on texts. They
# are asked without the rounding of activations.
_TAKES_MADE_PASTS = frozenset({"fp32", "fp16", "bf16", "int8"})


def prove(
    artifact: Artifact,
    source: Source,
    *,
    budget: Budget,
    evaluation: str | None = None,
    intended: Mapping[str, Quantized] | None = None,
    write_files: WriteFiles | None = None,
    stages: Stages | None = None,
    workers: Workers | None = None,
    open_bytes: int = OPEN_BYTES,
) -> GateResult:
    """Run the gate on a written artifact: the exact graph that users will run, on the CPU.

    Args:
        artifact: its files lie in its folder; whether a manifest does is of no matter.
        source: the model it has to match.
        budget: how far it may be from it.
        evaluation: held-out text for the quality figures; the default one when None.
        intended: integers by parameter name that the files have to hold. None where they are not known any more: the
            hashes of the files then show that they are what was verified once.
        write_files: writes what an export of the source has beside its graphs into an empty folder; None leaves those
            files to the checks that use them.
        stages: reports the progress.
        workers: of the connected cluster, which ask the source of a model that generates; None asks it here.
        open_bytes: of opened weights that may be in memory at once; a larger graph is run in pieces. Of a model that
            hears, or turns a text into another, the graphs are opened as they are.
    """
    from jisu.exporter.gate.prove_speech import prove_frames, prove_speech
    from jisu.exporter.gate.stored import check_integers, check_stored

    judge: Callable[..., GateResult] = partial(
        _prove_generator, intended=intended, workers=workers, open_bytes=open_bytes
    )
    pieces = describe_pieces(artifact, open_bytes)
    if source.model_kind == TEXT_TO_TEXT:
        judge, pieces = _prove_text_to_text, None
    elif source.model_kind in ONE_PASS_KINDS:
        judge = partial(_prove_one_pass, open_bytes=open_bytes)
    elif source.model_kind == SPEECH:
        judge, pieces = prove_speech if source.generates else prove_frames, None
    result = judge(artifact, source, budget=budget, evaluation=evaluation, stages=stages)
    # The integers first: a wrong one is seen by its effect, too, and named here.
    checks = (*check_integers(artifact, source, intended), *result.checks, *check_stored(artifact, source, write_files))
    notes = result.notes if pieces is None else (*result.notes, pieces)
    if artifact.manifest.needs_vnni:
        notes = (*notes, f"Verified for {WITH_VNNI} only; other CPUs do not open it.")
    return replace(result, checks=checks, notes=notes, ran_on=_ran_on(artifact))


def _ran_on(artifact: Artifact) -> dict[str, str]:
    """What ran the graph: always the CPU, whatever the artifact is for."""
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    return {
        "backend": VERIFIED_ON,
        "version": f"onnxruntime {import_onnxruntime().__version__}",
        "graph": artifact.cpu_graph.name,
    }


def _prove_generator(
    artifact: Artifact,
    source: Source,
    *,
    budget: Budget,
    evaluation: str | None,
    stages: Stages | None,
    intended: Mapping[str, Quantized] | None,
    workers: Workers | None,
    open_bytes: int,
) -> GateResult:
    from jisu.exporter.gate import gate_prompts, run_gate
    from jisu.exporter.gate.layered_reference import in_layers
    from jisu.exporter.gate.open_candidate import open_candidate
    from jisu.exporter.gate.reference import reference_of
    from jisu.exporter.gate.reference_tasks import on_cluster
    from jisu.exporter.gate.tokenizer import chat_renderer
    from jisu.exporter.jobs.free_memory import give_back_freed

    facts, tokenizer = source.model, source.tokenizer
    reference = on_cluster(in_layers(reference_of(source), source), source, workers)
    # A model that has neither a limit nor keys of each token knows no positions.
    counts = facts.max_positions is not None or any(spec.kind == "kv" for spec in artifact.manifest.signature.state)
    far = _far(source, facts.max_positions) if counts else None
    prompts = gate_prompts(
        tokenizer,
        facts.vocab_size,
        facts.max_positions,
        evaluation=evaluation,
        far=far,
        render=chat_renderer(artifact.folder),
        judges_quality=budget.judges_quality,
    )
    # What a recurrent state was is gone: nobody asks a backend to take it back.
    prompts = replace(prompts, rewinds=all(spec.kind != "recurrent" for spec in artifact.manifest.signature.state))
    source.let_go()
    give_back_freed()
    backend = open_candidate(artifact, VERIFIED_ON, open_bytes=open_bytes)
    try:
        return run_gate(
            backend,
            reference,
            prompts=prompts,
            budget=budget,
            tokenizer_check=tokenizer_check_of(artifact, source),
            locate=_locator(artifact, source, reference, open_bytes),
            whole_range=partial(_check_whole_range, artifact, source, intended or {}, open_bytes),
            further=_further(artifact, source, backend),
            progress=progress_of(stages),
        )
    finally:
        backend.close()


def _further(artifact: Artifact, source: Source, backend: Any) -> Callable[[Exam, Exam], list[Any]] | None:
    """What only a model that reads images or recordings is asked; None for any other."""
    from jisu.exporter.gate.hearing import hearing_checks, hearing_exam
    from jisu.exporter.gate.images import image_checks, image_exam
    from jisu.exporter.gate.open_candidate import open_image_reader, open_recording_reader

    vision, hearing, stored = source.vision, source.hearing, artifact.manifest.quantization
    if vision is not None:
        reader = open_image_reader(artifact, backend)
        return lambda exam, past: image_checks(
            image_exam(backend, reader, vision, exam, past, stored=stored.get(VISION_GRAPH, FLOAT)), vision
        )
    if hearing is not None:
        reader = open_recording_reader(artifact, backend)
        return lambda exam, past: hearing_checks(
            hearing_exam(backend, reader, hearing, exam, past, stored=stored.get(HEARING_GRAPH, FLOAT)), hearing
        )
    return None


def _far(source: Source, max_positions: int | None) -> int:
    from jisu.exporter.gate.prompts import far_length
    from jisu.exporter.sources.spans import attention_heads

    facts = source.model
    return far_length(parameters=facts.parameters, heads=attention_heads(source.module), max_positions=max_positions)


def _check_whole_range(
    artifact: Artifact, source: Source, intended: Mapping[str, Quantized], open_bytes: int, exam: Exam
) -> list[Check]:
    """Places of the whole range; with integers, and where these are known, without the rounding of activations."""
    from jisu.exporter.gate.positions import check_range
    from jisu.exporter.gate.unrounded_range import check_unrounded_range

    span = _whole_range(artifact, source)
    if span is None:
        return []
    strict = check_unrounded_range(artifact, source, intended, exam, span, open_bytes=open_bytes)
    if strict is not None:
        return [strict]
    return [check_range(exam, span)] if artifact.manifest.precision in _TAKES_MADE_PASTS else []


def _whole_range(artifact: Artifact, source: Source) -> Range | None:
    from jisu.exporter.gate.positions import choose_range
    from jisu.exporter.sources.spans import switch_points, window_sizes
    from jisu.exporter.tracing.trace_source import traced_interface

    signature = artifact.manifest.signature
    if not signature.state:
        return None
    return choose_range(
        traced_interface(source.module),
        signature,
        max_positions=source.model.max_positions,
        windows=window_sizes(source.module),
        switches=switch_points(source.module),
    )


def _prove_text_to_text(
    artifact: Artifact, source: Source, *, budget: Budget, evaluation: str | None, stages: Stages | None
) -> GateResult:
    from jisu.exporter.gate import gate_prompts, run_gate
    from jisu.exporter.gate.conditioned import ConditionedBackend, ConditionedReference, condition
    from jisu.exporter.gate.open_candidate import open_candidate
    from jisu.exporter.gate.reference import TorchReference

    facts, tokenizer = source.model, source.tokenizer
    start = facts.decoder_start
    assert start is not None, "a source that turns a text into another says what its answers begin with"
    positions = [one for one in (facts.max_positions, facts.max_source_positions) if one is not None]
    limit = min(positions, default=None)
    drafted = gate_prompts(
        tokenizer,
        facts.vocab_size,
        limit,
        evaluation=evaluation,
        far=_far(source, limit),
        judges_quality=budget.judges_quality,
    )
    prompts, sources = condition(drafted)
    backend: Any = open_candidate(artifact, VERIFIED_ON)
    try:
        return run_gate(
            ConditionedBackend(backend, sources, start=start),
            ConditionedReference(TorchReference(source.module), sources, start=start),
            prompts=prompts,
            budget=budget,
            tokenizer_check=tokenizer_check_of(artifact, source),
            progress=progress_of(stages),
        )
    finally:
        backend.close()


def _prove_one_pass(
    artifact: Artifact,
    source: Source,
    *,
    budget: Budget,
    evaluation: str | None,
    stages: Stages | None,
    open_bytes: int,
) -> GateResult:
    from jisu.exporter.gate import gate_texts, run_one_pass_gate
    from jisu.exporter.gate.one_pass_reference import one_pass_reference
    from jisu.exporter.gate.open_candidate import open_candidate_one_pass

    facts = source.model
    reference = one_pass_reference(source)
    backend = open_candidate_one_pass(artifact, VERIFIED_ON, open_bytes=open_bytes)
    try:
        return run_one_pass_gate(
            backend,
            reference,
            texts=gate_texts(
                source.tokenizer,
                facts.vocab_size,
                facts.max_positions,
                evaluation=evaluation,
                far=_far(source, facts.max_positions),
                ranks=source.model_kind == EMBEDDING,
                pairs=source.model_kind in PAIR_KINDS,
                takes_types=source.takes_types,
                ranks_documents=source.model_kind == CLASSIFICATION and source.columns == 1,
                rerank_prompt=facts.rerank_prompt,
                mask=facts.mask,
            ),
            budget=budget,
            tokenizer_check=tokenizer_check_of(artifact, source),
            locate=_locator(artifact, source, reference, open_bytes),
            progress=progress_of(stages),
        )
    finally:
        backend.close()


def _locator(
    artifact: Artifact, source: Source, reference: LayerReference, open_bytes: int
) -> Callable[[Any], str | None]:
    from jisu.exporter.gate.open_candidate import open_layers
    from jisu.exporter.graph.localize import locate_layer
    from jisu.exporter.sources.layers import find_layers

    stack = find_layers(source.module)

    def locate(token_ids: Any) -> str | None:
        if stack is None:
            return None
        layers: Any = source.module.get_submodule(stack.path)
        signature = artifact.manifest.signature
        return locate_layer(
            artifact.cpu_graph,
            signature=signature,
            reference=reference,
            layers=layers,
            token_ids=token_ids,
            open_graph=open_layers(artifact, open_bytes),
        )

    return locate
