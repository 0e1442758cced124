"""Which passes make a graph for a target and precision, in which order, and how often each of them has to fire."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from exporter.contract.artifact import TASKS, Task
from exporter.contract.errors import InputError, JisuError

if TYPE_CHECKING:
    import onnx_ir as ir

Expect = Literal["any", "told", "once", "all"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One pass of a recipe.

    ``expect`` says what is an error: ``any`` nothing; ``once`` not to fire at all; ``all`` to leave one of the places
    that the pass itself counts beforehand (`candidates` in its file) as it is. ``told`` leaves them with a note that
    whoever exports reads: for fusions without which a graph is slower and just as right, whose places models write in
    ways that nobody has seen yet. ``changes_signature`` marks the lowerings that exchange the graph's inputs.
    """

    name: str
    expect: Expect = "any"
    changes_signature: bool = False


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What a pass did: how many places it changed, how many it might have, and the seconds it took.

    ``note`` says in words what it left as it was, and why. ``graph`` tells of which graph, where there are two.
    """

    name: str
    count: int
    candidates: int | None
    seconds: float
    note: str | None = None
    graph: str | None = None

    @property
    def missed(self) -> int:
        """Places that the pass might have changed and left."""
        return max((self.candidates or 0) - self.count, 0)

    def to_dict(self) -> dict[str, Any]:
        """Without the time, so that the same export writes the same manifest."""
        record: dict[str, Any] = {"pass": self.name, "count": self.count}
        more = {"candidates": self.candidates, "note": self.note, "graph": self.graph}
        return record | {key: value for key, value in more.items() if value is not None}


# What a step says of places that it was to change and did not.
_LEFT = "have a form that the pass does not know: slower, and as right"


class PassFailedError(JisuError):
    """A pass did not do what the recipe demands; a graph that went on from here would be slow or wrong."""

    exit_code = 2


# Shared by every target: what the tracer writes becomes standard operators of opset 24.
PORTABLE = (
    Step(name="transpose_weights"),
    # Sums such as the one plus weight of some norms have to be constants before the norm is recognized.
    Step(name="fold_constants"),
    Step(name="static_reshapes"),
    Step(name="remove_noops"),
    Step(name="fuse_rms_norm", expect="told"),
    Step(name="fuse_rope", expect="told"),
    Step(name="select_logits", expect="all", changes_signature=True),
)

ORT_FP32 = (
    *PORTABLE,
    Step(name="lower_gqa", expect="all"),
    # The lowering merges heads around each attention; most of that cancels against the model's own splitting.
    Step(name="remove_noops"),
    Step(name="pack_qkv"),
    Step(name="fuse_gate_up"),
    Step(name="lower_skip_norm", expect="all"),
    Step(name="compute_rope_tables"),
    Step(name="lower_attention_mask", expect="all", changes_signature=True),
)

# The products are merged first: a merged weight is quantized as the parts it is made of.
ORT_WEIGHT_ONLY = (
    *ORT_FP32[:-1],
    Step(name="fold_channel_scales", expect="all"),
    Step(name="quantize_recurrent", expect="all"),
    Step(name="quantize_weights", expect="all"),
    Step(name="lower_matmul_nbits", expect="all"),
    Step(name="lower_quantized_embedding", expect="all"),
    Step(name="store_half_scales", expect="all"),
    ORT_FP32[-1],
)
PORTABLE_WEIGHT_ONLY = (
    *PORTABLE,
    Step(name="fold_channel_scales", expect="all"),
    Step(name="quantize_recurrent", expect="all"),
    Step(name="quantize_weights", expect="all"),
)

# Decoder layers whose inputs have 8 bits too; the tables, and layers that would suffer, have blocks as above. Gate and
# up stay apart: for long inputs, which this is for, cutting their common product costs more than a second one.
ORT_W8A8 = (
    *(step for step in ORT_WEIGHT_ONLY[:-4] if step.name != "fuse_gate_up"),
    Step(name="quantize_matmuls", expect="all"),
    Step(name="lower_integer_matmul", expect="all"),
    *ORT_WEIGHT_ONLY[-4:],
)
PORTABLE_W8A8 = (*PORTABLE_WEIGHT_ONLY, Step(name="quantize_matmuls", expect="all"))
# The weights last, when every product that can be merged has been.
ORT_HALF = (*ORT_FP32, Step(name="store_half", expect="all"))
PORTABLE_HALF = (
    *PORTABLE,
    Step(name="keep_float"),
    Step(name="compute_half", expect="all", changes_signature=True),
)

# What TensorRT's attention layer cannot express is spelled out before float types are chosen, so that softmax and
# bounds get theirs like any other operator; what it misreads is looked for at the very end.
TENSORRT = (
    *PORTABLE,
    Step(name="explicit_causal_mask", expect="all"),
    Step(name="decompose_attention", expect="all"),
)
TENSORRT_END = (
    Step(name="require_logits_positions", expect="all", changes_signature=True),
    Step(name="drop_softmax_precision", expect="all"),
    Step(name="lint_tensorrt"),
)
_TO_HALF = PORTABLE_HALF[len(PORTABLE) :]
TENSORRT_FP32 = (*TENSORRT, *TENSORRT_END)
TENSORRT_HALF = (*TENSORRT, *_TO_HALF, *TENSORRT_END)
# Products with integer weights are computed in float16, what is not quantized is stored in it.
TENSORRT_WEIGHT_ONLY = (
    *TENSORRT,
    Step(name="fold_channel_scales", expect="all"),
    Step(name="quantize_weights", expect="all"),
    *_TO_HALF,
    *TENSORRT_END,
)
# Scales of single rows have more digits than float16: what lies between the integer products stays float32. Layers
# whose inputs have outliers keep float32 inputs, and blocks of integers for weights.
TENSORRT_W8A8 = (
    *TENSORRT,
    Step(name="fold_channel_scales", expect="all"),
    Step(name="quantize_weights", expect="all"),
    Step(name="quantize_matmuls", expect="all"),
    *TENSORRT_END,
)

# Calls can be recorded when nothing is copied to the GPU on the way.
_CUDA_INPUTS = (ORT_FP32[-1], Step(name="count_in_gpu_memory", expect="all"))
# ONNX Runtime's fused attention has no float32 kernel for GPUs; the standard operators have.
ORT_CUDA_FP32 = (*PORTABLE, *_CUDA_INPUTS)
# The fused operators of ONNX Runtime with their floats in half precision, which is what its fast kernels are for.
_CUDA_END = (*_TO_HALF, *_CUDA_INPUTS)
ORT_CUDA_HALF = (*ORT_FP32[:-1], *_CUDA_END)
ORT_CUDA_WEIGHT_ONLY = (
    *ORT_FP32[:-1],
    Step(name="fold_channel_scales", expect="all"),
    Step(name="quantize_weights", expect="all"),
    Step(name="lower_matmul_nbits", expect="all"),
    Step(name="lower_quantized_embedding", expect="all"),
    *_CUDA_END,
)

RECIPES: dict[tuple[str, str], tuple[Step, ...]] = {
    ("portable", "fp32"): PORTABLE,
    ("ort-cpu", "fp32"): ORT_FP32,
    ("portable", "fp16"): PORTABLE_HALF,
    ("ort-cpu", "fp16"): ORT_HALF,
    ("portable", "bf16"): PORTABLE_HALF,
    ("ort-cpu", "bf16"): ORT_HALF,
    ("portable", "int8"): PORTABLE_WEIGHT_ONLY,
    ("ort-cpu", "int8"): ORT_WEIGHT_ONLY,
    ("portable", "int4"): PORTABLE_WEIGHT_ONLY,
    ("ort-cpu", "int4"): ORT_WEIGHT_ONLY,
    ("portable", "w8a8"): PORTABLE_W8A8,
    ("ort-cpu", "w8a8"): ORT_W8A8,
    ("portable", "w8a8-dynamic"): PORTABLE_W8A8,
    ("ort-cpu", "w8a8-dynamic"): ORT_W8A8,
    ("portable", "mixed"): PORTABLE_WEIGHT_ONLY,
    ("ort-cpu", "mixed"): ORT_WEIGHT_ONLY,
    ("portable", "gguf"): PORTABLE_WEIGHT_ONLY,
    ("ort-cpu", "gguf"): ORT_WEIGHT_ONLY,
    ("ort-cuda", "fp32"): ORT_CUDA_FP32,
    ("ort-cuda", "fp16"): ORT_CUDA_HALF,
    ("ort-cuda", "bf16"): ORT_CUDA_HALF,
    ("ort-cuda", "int8"): ORT_CUDA_WEIGHT_ONLY,
    ("ort-cuda", "int4"): ORT_CUDA_WEIGHT_ONLY,
    ("ort-cuda", "mixed"): ORT_CUDA_WEIGHT_ONLY,
    ("ort-cuda", "gguf"): ORT_CUDA_WEIGHT_ONLY,
    ("tensorrt", "fp32"): TENSORRT_FP32,
    ("tensorrt", "fp16"): TENSORRT_HALF,
    ("tensorrt", "bf16"): TENSORRT_HALF,
    ("tensorrt", "int8"): TENSORRT_WEIGHT_ONLY,
    ("tensorrt", "int4"): TENSORRT_WEIGHT_ONLY,
    ("tensorrt", "w8a8"): TENSORRT_W8A8,
}
# (target, precision) -> why there is no recipe, and the precision to use instead.
_NO_INTEGER_PRODUCTS = ("ONNX Runtime does not fuse products of 8-bit inputs on a GPU", "int8 or int4")
WHY_NOT: dict[tuple[str, str], tuple[str, str]] = {
    ("ort-cuda", "w8a8"): _NO_INTEGER_PRODUCTS,
    ("ort-cuda", "w8a8-dynamic"): _NO_INTEGER_PRODUCTS,
    ("tensorrt", "w8a8-dynamic"): ("TensorRT rounds the inputs of products by scales that are fixed", "w8a8"),
    ("tensorrt", "mixed"): ("a mix has weights with zero points, which TensorRT does not take", "int8 or int4"),
    ("tensorrt", "gguf"): (
        "files have tables of integers and zero points, which TensorRT does not take",
        "int8 or int4",
    ),
}


# They concern what is carried from token to token, and the logits of it: a classifier and an encoder, which run once
# for a text, have neither.
_OF_STATE = frozenset(
    {"select_logits", "lower_gqa", "lower_attention_mask", "compute_rope_tables", "require_logits_positions"}
    | {"count_in_gpu_memory"}
)
# A rotation becomes one operator where positions go on from a past; without one, its arithmetic stays as it is.
_OPTIONAL_FOR_CLASSIFIERS = frozenset({"fuse_rope"})


def recipe_for(target: str, precision: str, task: Task = TASKS[0]) -> tuple[Step, ...]:
    """The steps for a target, a precision and a task; raises InputError when there is no such recipe."""
    if task == "text-classification":
        steps = [step for step in recipe_for(target, precision) if step.name not in _OF_STATE]
        steps = [replace(step, expect="any") if step.name in _OPTIONAL_FOR_CLASSIFIERS else step for step in steps]
        return (Step(name="split_gemm"), *steps[:4], Step(name="widen_masks"), *steps[4:])
    try:
        return RECIPES[target, precision]
    except KeyError:
        known = [format_ for goal, format_ in RECIPES if goal == target]
        able = [goal for goal, format_ in RECIPES if format_ == precision]
        why, instead = WHY_NOT.get((target, precision), ("", "one of these"))
        others = f", or --target {' or '.join(able)}" if able else ""
        raise InputError(
            f"There is no recipe for target {target} in precision {precision}" + (f": {why}" if why else ""),
            received=f"--target {target} --precision {precision}",
            allowed=f"--target {target} with --precision {', '.join(known)}" if known else ", ".join(_targets()),
            fix=f"Choose {instead}{others}.",
        ) from None


def _targets() -> list[str]:
    return list(dict.fromkeys(target for target, _ in RECIPES))


def encoder_steps(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Those steps of a decoder's recipe that its encoder needs too."""
    return tuple(step for step in steps if step.name not in _OF_STATE)


def run_recipe(model: ir.Model, steps: tuple[Step, ...], **facts: Any) -> list[StepRecord]:
    """Apply the steps to a graph in place.

    Args:
        facts: what is known beyond the graph, by name; each pass is given those that its parameters name:
            ``max_positions`` (the model's positions, or None), ``quantized`` (parameter name -> `Quantized`),
            ``target``, ``half`` (a half precision's format), ``kept`` (names of parameters that stay float32), and
            ``windows`` (token ids to measure activations on, int64 [T] each).

    Raises:
        PassFailedError: a step fired less often than the recipe demands, or changed the graph's inputs or outputs
            without being allowed to.
    """
    import onnx_ir.passes.common as common_passes

    records = []
    for step in steps:
        module = import_module(f"exporter.passes.{step.name}")
        function: Callable[..., int] = getattr(module, step.name)
        possible: int | None = _call(module.candidates, model.graph, facts) if hasattr(module, "candidates") else None
        note: str | None = _call(module.note, model.graph, facts) if hasattr(module, "note") else None
        before = _interface(model.graph)
        started = time.perf_counter()
        count = _call(function, model.graph, facts)
        common_passes.RemoveUnusedNodesPass()(model)
        seconds = time.perf_counter() - started
        record = StepRecord(name=step.name, count=count, candidates=possible, seconds=seconds, note=note)
        if step.expect == "told" and record.missed:
            record = replace(record, note=f"{record.missed} of {possible} places {_LEFT}")
        _check(step, record, before, _interface(model.graph))
        records.append(record)
    return records


def _call(function: Callable[..., Any], graph: ir.Graph, facts: dict[str, Any]) -> Any:
    wanted = inspect.signature(function).parameters
    return function(graph, **{name: value for name, value in facts.items() if name in wanted})


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
    needed = {"any": 0, "told": 0, "once": 1, "all": record.candidates or 0}[step.expect]
    if record.count < needed:
        raise PassFailedError(
            f"The pass {step.name} fired too seldom",
            received=f"{record.count} places changed",
            allowed=f"at least {needed}",
            fix="The model has a form that this recipe does not know; please report it. "
            "`--target portable` exports it without this pass.",
        )
