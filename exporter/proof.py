"""Runs the gate on a written artifact: opens what users will run, and asks what its task and precision ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exporter.precision import precision_named

if TYPE_CHECKING:
    from calibration.integer_products import Quantized
    from exporter.artifact import Artifact
    from exporter.gate import Budget, GateResult
    from exporter.sources.source import Source
    from exporter.stages import Stages


def prove(
    artifact: Artifact,
    source: Source,
    *,
    budget: Budget,
    evaluation: str | None = None,
    intended: Mapping[str, Quantized] | None = None,
    stages: Stages | None = None,
) -> GateResult:
    """Run the gate on a written artifact, through the backend that users will run it on.

    Args:
        artifact: its files lie in its folder; whether a manifest does is of no matter.
        source: the model it has to match.
        budget: how far it may be from it.
        evaluation: held-out text for the quality figures; the default one when None.
        intended: integers by parameter name that the files have to hold. None where they are not known any more: the
            hashes of the files then prove that they are what was proved once.
        stages: told of the progress.
    """
    from exporter.gate import gate_prompts, run_gate
    from exporter.gate.conditioned import ConditionedBackend, ConditionedReference, condition
    from exporter.gate.facts import check_facts
    from exporter.gate.half import check_half_graph, check_half_weights
    from exporter.gate.localize import locate_layer
    from exporter.gate.tokenizer import check_tokenizer
    from exporter.gate.weights import check_weights
    from exporter.reference import TorchReference, reference_of
    from exporter.tracing.layers import plan_layers

    # The arrow points from runtimes to exporter; proving what users will run is the one step that looks back, here.
    from runtimes.registry import open_backend

    facts = source.model
    reference = reference_of(source)
    plan = plan_layers(source.module)
    tokenizer = source.tokenizer

    def locate(token_ids: Any) -> str | None:
        if plan is None:
            return None
        layers: Any = source.module.get_submodule(plan.path)
        signature = artifact.manifest.signature
        return locate_layer(
            artifact.cpu_graph, signature=signature, reference=reference, layers=layers, token_ids=token_ids
        )

    def progress(name: str, number: int, total: int) -> None:
        if stages is not None:
            stages.advance(number, total)

    positions = [one for one in (facts.max_positions, facts.max_source_positions) if one is not None]
    prompts = gate_prompts(tokenizer, facts.vocab_size, min(positions, default=None), evaluation=evaluation)
    # What a recurrent state was is gone: nobody asks a backend to take it back.
    prompts = replace(prompts, rewinds=all(spec.kind != "recurrent" for spec in artifact.manifest.signature.state))
    backend: Any = open_backend("ort-cpu", artifact)
    try:
        candidate: Any = backend
        truth: Any = reference
        if facts.decoder_start is not None and isinstance(reference, TorchReference):
            prompts, sources = condition(prompts)
            candidate = ConditionedBackend(backend, sources, start=facts.decoder_start)
            truth = ConditionedReference(reference, sources, start=facts.decoder_start)
        result = run_gate(
            candidate,
            truth,
            prompts=prompts,
            budget=budget,
            tokenizer_check=None if tokenizer is None else lambda: check_tokenizer(tokenizer, artifact.folder),
            locate=locate if facts.decoder_start is None else None,
            progress=progress,
        )
    finally:
        backend.close()
    encoder = artifact.encoder if facts.decoder_start is not None else None
    more = [check_facts(artifact.manifest.model, facts)]
    if precision_named(artifact.manifest.precision).half is not None:
        more += [check_half_weights(artifact.graph, source.module), *check_half_graph(artifact)]
        if encoder is not None:
            more.append(replace(check_half_weights(encoder, source.module), name="stored-weights-encoder"))
    if intended:
        more.append(check_weights(artifact.graph, intended, encoder=encoder))
    return replace(result, checks=(*result.checks, *more))
