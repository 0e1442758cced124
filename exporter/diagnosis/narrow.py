"""Within a piece that diverges from the source: from what still agrees to the first value that does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.diagnosis.finding import Finding, Limits
from jisu.exporter.diagnosis.graph_run import Call, GraphRun
from jisu.exporter.diagnosis.landmarks import landmarks, weights_read
from jisu.exporter.diagnosis.source_states import observe_within
from jisu.exporter.diagnosis.subgraph import operators_of, stretch, write_stretch
from jisu.exporter.diagnosis.subject import ANSWERS, Piece, Subject
from jisu.exporter.graph.localize import hidden_error

if TYPE_CHECKING:
    import onnx_ir as ir

_SHOWN = 6  # operators that are named one by one
# Landmarks of a layer whose fault shows in its second quarter or later: those before it say what is usual.
_RIGHT = 0.25
_Known = Mapping[str, npt.NDArray[np.float32]]


def narrow(
    subject: Subject, errors: npt.NDArray[np.float64], limits: Limits, *, where: tuple[int, int], folder: Path
) -> Finding:
    """Write the stretch of a piece that is wrong as a graph of its own.

    Args:
        errors: of all pieces, [pieces, 1 + steps].
        where: the piece and the step at which it parts first.
        folder: takes the files.
    """
    index, step = where
    piece = subject.pieces[index]
    known = _known(subject, piece)
    right: list[str] = []
    last, example, at = piece.output, {}, subject.calls[0]
    run = GraphRun(showing(subject.model, known), subject.artifact.folder, subject.artifact.manifest.signature)
    for call, inputs, values in run.over(subject.token_ids, subject.calls, subject.fed, [*known, piece.output]):
        if call.step != step:
            continue
        example, at = {**inputs, **values}, call
        right, wrong = _agreeing(known, values, call, limits)
        last = wrong or piece.output
        if wrong is not None or not subject.error(piece.output, values[piece.output], call) <= limits.lowest:
            break
    part = stretch(subject.model, begins=right, ends=last)
    arrays = _example(part, example)
    arrays["the source's"] = known[last][at.start : at.stop] if last in known else _truth(subject, piece, at)
    return Finding(
        piece=piece.name,
        layer=piece.layer,
        step=step,
        error=float(errors[index, step]),
        limit=limits.at(errors[:, step]),
        operators=in_words(part, behind=[*right, *subject.fed]),
        subgraph=write_stretch(part, folder, arrays=arrays),
    )


def _known(subject: Subject, piece: Piece) -> _Known:
    """Values within the piece by name, as the source has them over the whole text, [T, N]; in the graph's order."""
    if piece.layer is None:
        return {}
    outputs = observe_within(subject.reference, subject.layers[piece.layer], subject.token_ids)
    marks = landmarks(subject.model.graph, f"{subject.path}.{piece.layer}.")
    return {mark.value.name: outputs[mark.module] for mark in marks if mark.module in outputs and mark.value.name}


def _agreeing(
    known: _Known, outputs: Mapping[str, npt.NDArray[Any]], call: Call, limits: Limits
) -> tuple[list[str], str | None]:
    """The values in front of the first that is wrong, and that one."""
    errors = {}
    for name, truth in known.items():
        part = truth[call.start : call.stop]
        seen = outputs[name].astype(np.float32)
        if seen.size == part.size:  # else it is of some tokens only, or of another form
            errors[name] = hidden_error(part, seen.reshape(part.shape))
    limit = limits.at(np.array([*errors.values()]), share=_RIGHT)
    right: list[str] = []
    for name, error in errors.items():
        if not error <= limit:
            return right, name
        right.append(name)
    return right, None


def showing(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """A copy that hands on these values, too."""
    shown = model.clone()
    by_name = {value.name: value for node in shown.graph for value in node.outputs}
    shown.graph.outputs.extend(by_name[name] for name in names if not by_name[name].is_graph_output())
    return shown


def _truth(subject: Subject, piece: Piece, call: Call) -> npt.NDArray[np.float32]:
    if piece.output in ANSWERS:
        logits = subject.truth.logits
        return logits if len(logits) == 1 else logits[call.start : call.stop]
    return subject.of_seam(piece.output)[call.start : call.stop]


def _example(part: ir.Model, values: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """What goes into a stretch and comes out of it, by name; a bfloat16, which numpy lacks, is left out."""
    names = [value.name or "" for value in (*part.graph.inputs, *part.graph.outputs)]
    example = {}
    for name in names:
        value = values.get(name)
        if value is None or "bfloat16" in str(getattr(value, "data_type", lambda: "")()):
            continue
        example[name] = value if isinstance(value, np.ndarray) else value.numpy()
    return example


def in_words(part: ir.Model, *, behind: list[str]) -> str:
    """The operators behind what agrees; masks and positions are computed beside them."""
    reached = {id(value) for value in part.graph.inputs if value.name in behind}
    nodes = []
    for node in part.graph:
        if any(id(value) in reached for value in node.inputs):
            reached.update(id(value) for value in node.outputs)
            nodes.append(node)
    computing = operators_of(nodes if nodes else list(part.graph))
    shown = [f"{node.op_type} {_weight_of(node)}".strip() for node in computing[-_SHOWN:]]
    more = f"{len(computing) - _SHOWN} operators and then " if len(computing) > _SHOWN else ""
    return more + ", ".join(shown)


def _weight_of(node: ir.Node) -> str:
    """The weight that an operator reads, which tells more than its own name."""
    return max(sorted(weights_read(node)), key=len, default="")
