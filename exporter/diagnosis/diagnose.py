"""Compares an artifact's graph with its source piece by piece, and narrows the first piece that parts.

The graph is the one that CPUs run; of a graph for a GPU it is the same one, with the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT, SPEECH, TEXT_TO_TEXT, Artifact, read_artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.diagnosis.finding import Diagnosis, Limits, limits_of
from jisu.exporter.diagnosis.graph_part import ComparedPart
from jisu.exporter.diagnosis.narrow import narrow
from jisu.exporter.diagnosis.several_graphs import compare_hearing, compare_vision, diagnose_speech, joined
from jisu.exporter.diagnosis.subject import Subject, make_subject, text_of

if TYPE_CHECKING:
    from torch import nn

    from jisu.exporter.sources.source import Source

PROMPT, STEPS = 16, 8


def diagnose(
    artifact: str | Path,
    *,
    source: str | Path | nn.Module | None = None,
    tokenizer: Any = None,
    out: str | Path | None = None,
    prompt: int = PROMPT,
    steps: int = STEPS,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] | None = None,
) -> Diagnosis:
    """Find the first decode step and the first layer at which a graph diverges from its source.

    Args:
        artifact: a folder written by `exporter.export`, or one that the gate rejected.
        source: the checkpoint, or the module; None for the one that the manifest names.
        tokenizer: of a module or factory.
        out: where the smallest failing subgraph goes; ``ARTIFACT.failing`` when None. Nothing is written where nothing
            parts.
        prompt: tokens of the prompt, at least 1.
        steps: tokens that are decoded behind it, one by one.
        allow_pickle: also read pickled weights of the source.
        ignore_weights: patterns of its tensors to leave out; those that the export left out when None.

    Raises:
        InputError: the artifact or its source cannot be read, or turns texts into others.
    """
    from jisu.exporter.sources.recorded_source import load_recorded_source

    for name, value, least in (("prompt-tokens", prompt, 1), ("steps", steps, 0)):
        if value < least:
            raise InputError(
                f"--{name} is too small",
                received=value,
                allowed=f"{least} or more",
                fix=f"Correct --{name}.",
            )
    opened = read_artifact(artifact, or_rejected=True)
    kind = opened.manifest.model_kind
    if kind == TEXT_TO_TEXT:
        raise InputError(
            f"{opened.folder} has an encoder and a decoder of texts, and is not diagnosed yet",
            received=f"an artifact for {kind}",
            allowed="models that continue a text, read whole texts, hear or read images or recordings",
            fix="`jisu verify` names the check that differs first; of a rejected export rejected.json does.",
        )
    loaded = load_recorded_source(
        opened, source, allow_pickle=allow_pickle, ignore_weights=ignore_weights, tokenizer=tokenizer
    )
    _check_source(opened, loaded)
    limits = limits_of(opened.manifest.precision)
    folder = Path(out) if out is not None else opened.folder.with_name(f"{opened.folder.name}.failing")
    if kind == SPEECH:
        said = text_of(loaded, prompt + steps)
        return diagnose_speech(opened, loaded, said, limits, prompt=min(prompt, len(said)), folder=folder)
    beside = {IMAGE_TEXT: compare_vision, AUDIO_TEXT: compare_hearing}.get(kind)
    seen = None if beside is None else beside(opened, loaded, limits, folder=folder)
    subject, notes = make_subject(opened, loaded, prompt=prompt, steps=steps)
    errors = _errors(subject)
    names = tuple(piece.name for piece in subject.pieces)
    where = _first(errors, limits)
    finding = None if seen is None else seen.finding
    if where is not None and finding is None:
        finding = narrow(subject, errors, limits, where=where, folder=folder)
    if seen is None:
        return Diagnosis(pieces=names, errors=errors, finding=finding, notes=notes)
    return joined([seen, ComparedPart(pieces=names, errors=errors, finding=finding)], notes)


def _check_source(artifact: Artifact, source: Source) -> None:
    """Raise InputError for another model's source: its pieces would not even have the same shapes."""
    from jisu.exporter.gate.facts import check_facts

    facts = check_facts(artifact.manifest.model, source.model)
    sizes = [model.parameters for model in (artifact.manifest.model, source.model)]
    if facts.passed and sizes[0] == sizes[1]:
        return
    raise InputError(
        f"{artifact.folder} was made from another model than this source",
        received=f"{sizes[1]} parameters instead of {sizes[0]}" if facts.passed else facts.detail,
        allowed="the checkpoint that it was made from",
        fix="Name the right one with --source.",
    )


def _errors(subject: Subject) -> npt.NDArray[np.float64]:
    """Each piece's own error, [pieces, 1 + steps]."""
    names = [piece.output for piece in subject.pieces]
    errors = np.zeros((len(names), 1 + subject.calls[-1].step))
    for call, _, arrays in subject.run.over(subject.token_ids, subject.calls, subject.fed, names):
        for index, name in enumerate(names):
            error = subject.error(name, arrays[name], call)
            # Several calls may belong to the prompt; written so that NaN stays.
            if not error <= errors[index, call.step]:
                errors[index, call.step] = error
    return errors


def _first(errors: npt.NDArray[np.float64], limits: Limits) -> tuple[int, int] | None:
    """(piece, step) of the earliest step at which anything parts, and the first piece that does there."""
    for step in range(errors.shape[1]):
        # Written so that NaN counts as diverged.
        diverged = np.flatnonzero(~(errors[:, step] <= limits.at(errors[:, step])))
        if len(diverged):
            return int(diverged[0]), step
    return None
