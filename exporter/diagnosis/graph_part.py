"""One graph of an artifact that has several, compared with its source at every module whose weights it reads.

The graph is run once, or call by call, on what the source is given there too, and its values are compared with what the
modules of the source give. Errors add up from module to module: the first one beyond the limit is where to look.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.signature import Signature
from jisu.exporter.diagnosis.finding import Finding, Floats, Limits
from jisu.exporter.diagnosis.graph_run import Call, GraphRun
from jisu.exporter.diagnosis.landmarks import landmarks
from jisu.exporter.diagnosis.narrow import in_words, showing
from jisu.exporter.diagnosis.subgraph import stretch, write_stretch

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

Arrays = Mapping[str, npt.NDArray[Any]]
# A position that is nearly zero has no scale of its own: that of all positions, times this, is the least.
_LEAST_SCALE = 0.1
_LAYER = re.compile(r"^(.*?\.\d+)\.")
# Modules that are taken to be right when it is asked how much rounding is usual.
_RIGHT = 0.25


@dataclass(frozen=True, kw_only=True)
class GraphPart:
    """A graph and how its source is run.

    Attributes:
        name: what the graph is, for the pieces' names: ``encoder``.
        path: of the file.
        module: the source's; its modules' paths are the names of the graph's weights.
        run_source: runs it on the same inputs; returns what the graph gives in the end, by output.
        inputs: by name; of a graph with a state those that are the same in every call.
        token_ids: int64 [T], of a graph with a state.
        calls: of such a graph; none of one that is run once.
    """

    name: str
    path: Path
    module: nn.Module
    run_source: Callable[[], Arrays]
    signature: Signature
    inputs: Arrays = field(default_factory=dict)
    token_ids: npt.NDArray[np.int64] | None = None
    calls: Sequence[Call] = ()


@dataclass(frozen=True, kw_only=True)
class ComparedPart:
    """Errors of one part: ``pieces`` in the graph's order, [pieces, steps], and the first finding."""

    pieces: tuple[str, ...]
    errors: Floats
    finding: Finding | None


def compare_part(part: GraphPart, limits: Limits, *, steps: int, folder: Path) -> ComparedPart:
    """Run both and compare; where something diverges, write the stretch that is wrong.

    Args:
        steps: of the errors: 1 and as many as are decoded.
        folder: takes the files of the smallest failing subgraph.
    """
    from jisu.exporter.graph.read_graph import read_graph

    model = read_graph(part.path)
    marks = list(landmarks(model.graph, ""))
    seen, outputs = _observed(part, {mark.module for mark in marks})
    # Behind a landmark in the graph's order stand those that read it.
    truths = {mark.value.name: (mark.module, seen[mark.module]) for mark in marks if mark.module in seen}
    truths |= {name: ("output", value) for name, value in outputs.items()}
    known = {str(name): value for name, value in truths.items() if name}
    errors = np.full((len(known), steps), np.nan)
    first: tuple[int, int, dict[str, Any], Call | None] | None = None
    run = GraphRun(showing(model, known), part.path.parent, part.signature)
    for call, inputs, values in _calls(part, run, list(known)):
        step = 0 if call is None else call.step
        for index, (name, (_, truth)) in enumerate(known.items()):
            errors[index, step] = max(_error(truth, values[name], call), np.nan_to_num(errors[index, step]))
        if first is None:
            limit = limits.at(errors[:, step], share=_RIGHT)
            wrong = np.flatnonzero(~(errors[:, step] <= limit))
            if len(wrong):
                first = (int(wrong[0]), step, {**inputs, **values}, call)
    finding = None
    if first is not None:
        finding = _finding(part, model, known, errors, limits, where=first, folder=folder)
    return ComparedPart(**_by_layer(part, [module for module, _ in known.values()], errors), finding=finding)


def _observed(part: GraphPart, paths: AbstractSet[str]) -> tuple[dict[str, npt.NDArray[np.float32]], Arrays]:
    """The output of each module that is called once, by its path, and what the source gives in the end."""
    import torch

    kept: dict[str, list[Any]] = {}

    def keep(path: str) -> Callable[..., None]:
        return lambda _, __, output: kept.setdefault(path, []).append(output)

    hooks = [module.register_forward_hook(keep(path)) for path, module in part.module.named_modules() if path in paths]
    try:
        outputs = part.run_source()
    finally:
        for hook in hooks:
            hook.remove()
    once = {path: made[0] for path, made in kept.items() if len(made) == 1 and torch.is_tensor(made[0])}
    return {path: value.detach().float().cpu().numpy() for path, value in once.items()}, outputs


def _calls(
    part: GraphPart, run: GraphRun, names: list[str]
) -> Iterator[tuple[Call | None, Mapping[str, Any], Mapping[str, npt.NDArray[Any]]]]:
    if part.token_ids is None:
        yield None, part.inputs, run.once(part.inputs, names)
        return
    yield from run.over(part.token_ids, part.calls, {}, names, constant=part.inputs)


def _error(truth: npt.NDArray[np.float32], value: npt.NDArray[Any], call: Call | None) -> float:
    """The largest difference in root mean squares of its position; of another size nothing is known: 0."""
    if call is not None and truth.ndim > 1 and truth.shape[-2] >= call.stop:
        truth = truth[..., call.start : call.stop, :]
    seen = value.astype(np.float64)
    if seen.size != truth.size:
        return 0.0
    rows = truth.reshape(-1, truth.shape[-1]).astype(np.float64)
    scale = np.sqrt(np.mean(np.square(rows), axis=1))
    least = max(_LEAST_SCALE * float(np.sqrt(np.mean(np.square(rows)))), float(np.finfo(np.float32).tiny))
    distance = np.abs(seen.reshape(rows.shape) - rows).max(axis=1)
    # What is not finite is as far as can be.
    return float(np.nan_to_num((distance / np.maximum(scale, least)).max(), nan=np.inf))


def _by_layer(part: GraphPart, modules: Sequence[str], errors: Floats) -> dict[str, Any]:
    """A piece for each layer, and for each module outside of them."""
    names = [f"{part.name}: {match[1] if (match := _LAYER.match(module)) else module}" for module in modules]
    pieces = list(dict.fromkeys(names))
    largest = np.full((len(pieces), errors.shape[1]), np.nan)
    for name, row in zip(names, errors, strict=True):
        place = pieces.index(name)
        largest[place] = np.fmax(largest[place], row)
    return {"pieces": tuple(pieces), "errors": largest}


def _finding(
    part: GraphPart,
    model: ir.Model,
    known: Mapping[str, tuple[str, npt.NDArray[np.float32]]],
    errors: Floats,
    limits: Limits,
    *,
    where: tuple[int, int, dict[str, Any], Call | None],
    folder: Path,
) -> Finding:
    index, step, values, _ = where
    names = list(known)
    last, (module, truth) = names[index], known[names[index]]
    stretched = stretch(model, begins=names[:index], ends=last)
    needed = [value.name or "" for value in (*stretched.graph.inputs, *stretched.graph.outputs)]
    arrays = {name: values[name] for name in needed if isinstance(values.get(name), np.ndarray)}
    layer = _LAYER.match(module)
    return Finding(
        piece=f"{part.name}: {module}",
        layer=None if layer is None else int(layer[1].rpartition(".")[2]),
        step=step,
        error=float(errors[index, step]),
        limit=limits.at(errors[:, step], share=_RIGHT),
        operators=in_words(stretched, behind=names[:index]),
        subgraph=write_stretch(stretched, folder, arrays={**arrays, "the source's": truth}),
    )
