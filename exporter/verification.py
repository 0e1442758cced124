"""Runs the gate on an artifact that lies on the disk, against the checkpoint it was made from or another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.contract.artifact import Artifact, read_artifact
from exporter.contract.errors import InputError
from exporter.gate.evaluation_text import EvaluationText, read_evaluation_text
from exporter.jobs.stages import Stages
from exporter.precision.precision import precision_named

if TYPE_CHECKING:
    from torch import nn

    from exporter.gate import Budget, GateResult
    from exporter.sources.source import Source
    from exporter.tracing.classifier import Classifier


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
        evaluation: text for the quality figures; the default one when None, also where it was proved on another.
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
    from exporter.gate.prove import prove

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
        from exporter.second_opinion import choose_witness

        # What is missing is said before the long part begins.
        choose_witness(loaded.provenance, opened.manifest.task, python=opinion_python)
    with stages.stage("prove"):
        budget = _recorded_budget(opened)
        result = prove(opened, loaded, budget=budget, evaluation=held_out.given, stages=stages)
    if second_opinion:
        from exporter.second_opinion import ask_second_opinion

        with stages.stage("second opinion"):
            opinion = ask_second_opinion(opened, loaded, python=opinion_python, allow_pickle=allow_pickle)
        result = replace(result, checks=(*result.checks, *opinion.checks), second_opinion=opinion.to_dict())
    return replace(result, notes=tuple(_notes(opened, loaded, held_out)))


def _notes(artifact: Artifact, source: Source, evaluation: EvaluationText) -> list[str]:
    notes = []
    recorded = artifact.manifest.quantization.get("evaluation", {}).get("text_sha256")
    if recorded != evaluation.sha256:
        notes.append("Its quality was first measured on another evaluation text; the budget is the same.")
    if _hashes(source.provenance) != _hashes(artifact.manifest.source):
        notes.append("This is not the checkpoint it was made from: its files have other hashes than the recorded ones.")
    if source.tokenizer is None:
        notes.append("The source has no tokenizer: the artifact's was not proved.")
    return notes


def _recorded_budget(artifact: Artifact) -> Budget:
    """The budget that the artifact was accepted with."""
    from exporter.gate import Budget

    own = precision_named(artifact.manifest.precision).budget
    recorded = artifact.manifest.quantization.get("budget")
    try:
        return own if recorded is None else Budget(**recorded)
    except TypeError as error:
        raise InputError(
            f"The manifest of {artifact.folder} records a budget that cannot be read",
            received=error,
            fix="Export the model again.",
        ) from error


def open_torch_module(artifact: Artifact, source: str | nn.Module | None) -> nn.Module:
    """The artifact's source as a module with the traced interface, for the backend ``torch``.

    Raises:
        InputError: no source was given and the recorded one is gone, or its files are not the recorded ones.
    """
    from exporter.tracing.trace_source import traced_interface

    module: Any = traced_interface(load_recorded_source(artifact, source, same_files=True).module)
    if hasattr(module, "route_attention"):
        module.route_attention()
    return module  # type: ignore[no-any-return]


def open_torch_classifier(artifact: Artifact, source: str | Path | nn.Module | None) -> Classifier:
    """The source of an artifact that classifies, for the backend ``torch``; raises InputError as the other does."""
    from exporter.tracing.classifier import Classifier

    return Classifier(load_recorded_source(artifact, source, same_files=True).module)


def load_recorded_source(
    artifact: Artifact,
    source: str | Path | nn.Module | None,
    *,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] | None = None,
    same_files: bool = False,
    tokenizer: Any = None,
) -> Source:
    """Load the given checkpoint, or the one that the manifest names.

    Args:
        tokenizer: of a module or factory.
        ignore_weights: patterns of its tensors to leave out; those that the export left out when None.
        same_files: refuse a checkpoint whose files are not the ones that the artifact was made from.
    """
    from exporter.sources import load_source

    recorded: dict[str, Any] = artifact.manifest.source
    place = source if source is not None else recorded.get("name")
    if place is None or (source is None and not _can_be_found(recorded)):
        raise InputError(
            f"The source of {artifact.folder} is not where it was",
            received=place,
            allowed="the checkpoint that the artifact was made from",
            fix="Name it with --source.",
        )
    # The recorded revision belongs to the recorded place, not to another one.
    revision = recorded.get("revision") if source is None else None
    loaded = load_source(
        place,
        revision=revision,
        allow_pickle=allow_pickle,
        ignore_weights=_left_out(recorded, place) if ignore_weights is None else ignore_weights,
        tokenizer=tokenizer,
    )
    if same_files and _hashes(loaded.provenance) != _hashes(recorded):
        shown = place if isinstance(place, (str, Path)) else type(place).__name__
        raise InputError(
            f"{shown} is not the checkpoint that {artifact.folder} was made from: its weights have other hashes",
            fix="Name the right one with --source.",
        )
    if loaded.task != artifact.manifest.task:
        raise InputError(
            f"{artifact.folder} was made from a model for {artifact.manifest.task}",
            received=f"a source for {loaded.task}",
            allowed="the checkpoint that it was made from",
            fix="Name the right one with --source.",
        )
    return loaded


def _left_out(recorded: dict[str, Any], place: str | Path | nn.Module) -> tuple[str, ...]:
    """The patterns of weights that an export was asked to leave out, where the place of the source has stored ones."""
    from exporter.sources.kinds import kind_of

    if not isinstance(place, (str, Path)) or kind_of(place) == "factory":
        return ()
    account = recorded.get("account")
    patterns = account.get("ignore_weights") if isinstance(account, dict) else None
    return tuple(str(one) for one in patterns) if isinstance(patterns, list) else ()


def _can_be_found(recorded: dict[str, Any]) -> bool:
    """Whether the place of a recorded source tells where it is; a module that was handed over had none."""
    kind = recorded.get("kind")
    return kind in ("hf-hub", "factory") or (kind != "module" and Path(str(recorded.get("name"))).exists())


def _hashes(provenance: dict[str, Any]) -> list[str]:
    return sorted(str(record.get("sha256")) for record in provenance.get("files", {}).values())
