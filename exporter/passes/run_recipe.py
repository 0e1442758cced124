"""Runs the steps of a recipe over a graph, and refuses what went on without doing its part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import JisuError
from jisu.exporter.passes.steps import Step, StepRecord
from jisu.exporter.precision.precision import HalfType

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Quantized

# What a step says of places that it was to change and did not.
_LEFT = "have a form that the pass does not know: slower, and as right"


class PassFailedError(JisuError):
    """A pass did not do what the recipe demands; a graph that went on from here would be slow or wrong."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class PassContext:
    """What passes may need to know beyond the graph; each `Step` names what its pass takes of it.

    Attributes:
        target: what the graph is lowered for.
        max_positions: of the model; None for any number.
        quantized: weights in integers, by parameter name.
        half: the type of a half precision; None elsewhere.
        kept: names of parameters that stay float32 in a half precision.
        windows: token ids to measure activations on, int64 [T] each; None where nothing is measured.
    """

    target: str
    max_positions: int | None
    quantized: Mapping[str, Quantized]
    half: HalfType | None
    kept: frozenset[str]
    windows: list[Any] | None


def run_recipe(model: ir.Model, steps: tuple[Step, ...], context: PassContext) -> list[StepRecord]:
    """Apply the steps to a graph in place.

    Args:
        context: what is known beyond the graph; each pass is called with those attributes that its step names.

    Raises:
        PassFailedError: a step fired less often than the recipe demands, or changed the graph's inputs or outputs
            without being allowed to.
    """
    import onnx_ir.passes.common as common_passes

    records = []
    for step in steps:
        module = import_module(f"jisu.exporter.passes.{step.name}")
        function: Callable[..., int] = getattr(module, step.name)
        known = _attributes(context, step.counting_reads)
        possible: int | None = module.count_places(model.graph, **known) if hasattr(module, "count_places") else None
        note: str | None = module.note(model.graph, **known) if hasattr(module, "note") else None
        before = _interface(model.graph)
        started = time.perf_counter()
        count = function(model.graph, **_attributes(context, step.reads))
        common_passes.RemoveUnusedNodesPass()(model)
        seconds = time.perf_counter() - started
        record = StepRecord(name=step.name, count=count, possible=possible, seconds=seconds, note=note)
        if step.expect == "reported" and record.missed:
            record = replace(record, note=f"{record.missed} of {possible} places {_LEFT}")
        _check(step, record, before, _interface(model.graph))
        records.append(record)
    return records


def _attributes(context: PassContext, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(context, name) for name in names}


def _interface(graph: ir.Graph) -> tuple[list[str], list[str]]:
    """Name, type and dims of every input and output."""
    inputs, outputs = (
        [f"{value.name} {value.dtype} {value.shape}" for value in values] for values in (graph.inputs, graph.outputs)
    )
    return inputs, outputs


def _check(step: Step, record: StepRecord, before: Any, after: Any) -> None:
    if not step.changes_signature and before != after:
        raise PassFailedError(
            f"The pass {step.name} changed the inputs or outputs of the graph",
            received=after,
            allowed=before,
            fix="This is a bug of jisu; please report the model.",
        )
    needed = {"any": 0, "reported": 0, "once": 1, "all": record.possible or 0}[step.expect]
    if record.count < needed:
        raise PassFailedError(
            f"The pass {step.name} was applied too few times",
            received=f"{record.count} places changed",
            allowed=f"at least {needed}",
            fix="The model has a form that this recipe does not know; please report it. "
            "`--target portable` exports it without this pass.",
        )
