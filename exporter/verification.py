"""Runs the gate on an artifact that lies on the disk, against the checkpoint it was made from or another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import Artifact, read_artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.evaluation_text import EvaluationText, read_evaluation_text
from jisu.exporter.jobs.stages import Stages
from jisu.exporter.packaging.folder_files import write_folder_files
from jisu.exporter.precision.precision import precision_named
from jisu.exporter.sources.recorded_source import file_hashes, load_recorded_source

if TYPE_CHECKING:
    from torch import nn

    from jisu.exporter.gate import Budget, GateResult
    from jisu.exporter.sources.source import Source
    from jisu.exporter.tracing.one_pass import OnePass


def verify(
    artifact: str | Path,
    *,
    source: str | Path | nn.Module | None = None,
    tokenizer: Any = None,
    evaluation: str | Path | None = None,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] | None = None,
    second_opinion: bool = False,
    opinion_python: str | None = None,
    stages: Stages | None = None,
) -> GateResult:
    """Compare an artifact with its source again, after checking every file's SHA-256.

    Args:
        artifact: a folder written by `exporter.export`.
        source: the checkpoint, or the module, to compare with; None for the one that the manifest names.
        tokenizer: of a module or factory.
        evaluation: text for the quality figures; the default one when None, also where it was verified on another.
        allow_pickle: also read pickled weights of the source.
        ignore_weights: patterns of its tensors to leave out; those that the export left out when None.
        second_opinion: also compare it with another implementation of the same checkpoint, see
            `exporter.second_opinion`; without ``source`` the checkpoint's files must be the recorded ones.
        opinion_python: the interpreter that has the other implementation; this one when None.
        stages: collects the time and peak memory of each step.

    Returns:
        The gate's verdict; a rejection is a result here, not an error.

    Raises:
        InputError: the artifact is damaged, the source cannot be found or loaded, or the other implementation cannot
            be asked.
    """
    from jisu.exporter.gate.prove import prove

    stages = stages or Stages()
    opened = read_artifact(artifact, check_hashes=True)
    held_out = read_evaluation_text(evaluation)
    with stages.stage("load"):
        loaded = load_recorded_source(
            opened,
            source,
            allow_pickle=allow_pickle,
            ignore_weights=ignore_weights,
            tokenizer=tokenizer,
            same_files=second_opinion and source is None,
        )
    if second_opinion:
        from jisu.exporter.second_opinion import choose_witness

        # What is missing is said before the long part begins.
        choose_witness(loaded.provenance, opened.manifest.model_kind, python=opinion_python)
    with stages.stage("verify"):
        budget = _recorded_budget(opened)
        manifest = opened.manifest
        write = partial(write_folder_files, source=loaded, signature=manifest.signature, target=manifest.target)
        result = prove(opened, loaded, budget=budget, evaluation=held_out.requested, write_files=write, stages=stages)
    if second_opinion:
        from jisu.exporter.second_opinion import ask_second_opinion

        with stages.stage("second opinion"):
            opinion = ask_second_opinion(opened, loaded, python=opinion_python, allow_pickle=allow_pickle)
        result = replace(result, checks=(*result.checks, *opinion.checks), second_opinion=opinion.to_dict())
    return replace(result, notes=(*result.notes, *_notes(opened, loaded, held_out)))


def _notes(artifact: Artifact, source: Source, evaluation: EvaluationText) -> list[str]:
    notes = []
    recorded = artifact.manifest.quantization.get("evaluation", {}).get("text_sha256")
    if recorded != evaluation.sha256:
        notes.append("Its quality was first measured on another evaluation text; the budget is the same.")
    if file_hashes(source.provenance) != file_hashes(artifact.manifest.source):
        notes.append("This is not the checkpoint it was made from: its files have other hashes than the recorded ones.")
    if source.tokenizer is None:
        notes.append("The source has no tokenizer: the artifact's was not verified.")
    return notes


def _recorded_budget(artifact: Artifact) -> Budget:
    """The budget that the artifact was accepted with."""
    from jisu.exporter.gate import Budget

    own = precision_named(artifact.manifest.precision).budget
    recorded = artifact.manifest.quantization.get("budget")
    try:
        return own if recorded is None else Budget(**recorded)
    except TypeError as error:
        raise InputError(
            f"The manifest of {artifact.folder} records a budget that cannot be read",
            received=error,
            allowed="a budget as the export wrote it",
            fix="Export the model again.",
        ) from error


def open_torch_module(artifact: Artifact, source: str | nn.Module | None) -> nn.Module:
    """The artifact's source as a module with the traced interface, for the backend ``torch``.

    Raises:
        InputError: no source was given and the recorded one is gone, or its files are not the recorded ones.
    """
    from jisu.exporter.tracing.trace_source import traced_interface

    module: Any = traced_interface(load_recorded_source(artifact, source, same_files=True).module)
    if hasattr(module, "route_attention"):
        module.route_attention()
    return module  # type: ignore[no-any-return]


def open_torch_one_pass(artifact: Artifact, source: str | Path | nn.Module | None) -> OnePass:
    """The same of an artifact whose model reads whole texts; raises InputError as the other does."""
    from jisu.exporter.tracing.trace_source import traced_reader

    return traced_reader(load_recorded_source(artifact, source, same_files=True))
