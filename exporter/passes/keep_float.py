"""Decides which operators of a graph stay in float32 when it is computed in half precision, and why.

By rule: statistics, exponentials, rotations and the arithmetic of positions. By measurement: whatever comes near the
largest number of the format on calibration text. Nothing is changed here but the nodes' notes, which `compute_half`
follows.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import STATE_PREFIXES
from jisu.exporter.graph.localize import LAYERS_KEY
from jisu.exporter.graph.match import is_weight, producer
from jisu.exporter.graph.merge_weights import parameters_of
from jisu.exporter.passes.store_half import largest, stored_type
from jisu.exporter.precision.precision import LARGEST, HalfType

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    import onnx_ir as ir

# Key in a node's notes: why it stays in float32.
REASON = "stays float32"
# The same in the file, among the node's metadata.
FLOAT32_BECAUSE = "jisu.float32_because"
# Operators that take whatever type comes and compute with none.
ANY_TYPE = frozenset({"Cast", "Shape", "Size"})
# What calibration text reaches may be this much larger on other text without becoming infinite.
SAFETY = 4.0
_STATISTICS = ("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceProd", "CumSum")
_CURVES = ("Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Softmax", "LogSoftmax", "ReduceLogSumExp", "Sin", "Cos")
# A norm is not among them: its operator takes its statistics in float32 by itself (`stash_type`), as `Attention` takes
# its softmax (`softmax_precision`).
_RULES = {
    **dict.fromkeys(_STATISTICS, "a sum over many numbers"),
    **dict.fromkeys(_CURVES, "a curve that magnifies rounding"),
    "RotaryEmbedding": "its tables of angles would lose digits",
}
# Operators that onnxruntime-gpu 1.31 has no bfloat16 kernel for, found by opening each: it refuses the whole graph.
_NO_BFLOAT16 = frozenset(
    {"Ceil", "Clip", "CumSum", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Round", "Pad"}
    | {"Elu", "GRU", "LSTM", "LeakyRelu", "Mean", "PRelu", "RNN", "Selu", "ThresholdedRelu"}
    | {"Log", "LogSoftmax", "Reciprocal", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMin", "ReduceProd"}
)
_WITHOUT_KERNEL = "onnxruntime-gpu has no bfloat16 kernel for it"
# Operator -> index of the scales among its inputs.
_SCALES = {"DequantizeLinear": 1, "MatMulNBits": 2, "GatherBlockQuantized": 2}
_POSITIONS = "computed from positions alone, which need all digits"
# Rotations and position biases that a model spells out.
_MEETS = "applies what was computed from positions"
_ELEMENTWISE = ("Add", "Sub", "Mul")
_MEASURED = " on calibration text"
# Readers of a smaller constant may each have it in their own type.
_SHARED = 1024


def keep_float(
    graph: ir.Graph,
    *,
    half: HalfType,
    target: str,
    kept: AbstractSet[str],
    windows: Sequence[Any] | None,
) -> int:
    """Note on each operator that has to stay in float32 why it has to; returns how many there are of them.

    Args:
        target: ``ort-cuda`` has some operators in float32 and float16 alone.
        kept: names of parameters that stay float32; so do the products with them.
        windows: token ids to measure activations on, int64 [T] each; None for the rules alone.

    Raises:
        InputError: an activation is not finite on them.
    """
    from jisu.exporter.graph.activation_ranges import measure_ranges

    ranges = {} if windows is None else measure_ranges(graph, windows)
    positional = _positional(graph)
    lacks_kernels = half == "bfloat16" and target == "ort-cuda"
    broken = _first_broken(graph, ranges, positional)
    if broken is not None:
        name = broken.outputs[0].name or ""
        raise InputError(
            f"The model computes numbers that are not finite, first in {_place(graph, broken)}",
            received=f"{ranges[name]} in {name} ({broken.op_type}) on the calibration text",
            allowed="finite activations",
            fix="Repair the checkpoint; no precision can represent them.",
        )
    before = sum(REASON in node.meta for node in graph)
    for node in graph:
        reason = _reason(node, half, set(kept), ranges)
        if reason is None:
            reason = positional.get(id(node))
        if reason is None and lacks_kernels and node.op_type in _NO_BFLOAT16 and not node.domain:
            reason = _WITHOUT_KERNEL
        if reason is not None and _is_float(node):
            node.meta.setdefault(REASON, reason)
    while _spread_over_weights(graph) or _spread_over_states(graph):
        pass
    for node in graph:
        if REASON in node.meta:
            node.metadata_props[FLOAT32_BECAUSE] = node.meta[REASON]
    return sum(REASON in node.meta for node in graph) - before


def kept_nodes(graph: ir.Graph) -> str | None:
    """What stays in float32 and why, counted; the graph says it of each operator (`FLOAT32_BECAUSE`)."""
    rules: dict[str, list[ir.Node]] = {}
    measured, single = [], []
    for node in graph:
        reason = node.meta.get(REASON, "")
        if reason in (_POSITIONS, _MEETS, _WITHOUT_KERNEL, *_RULES.values()):
            rules.setdefault(reason, []).append(node)
        elif reason.endswith(_MEASURED):
            measured.append(node)
        elif reason:
            single.append(f"{node.op_type} {_place(graph, node)}: {reason}")
    lines = [f"{_counted(nodes)}: {reason}" for reason, nodes in rules.items()]
    if measured:
        first, last = (_place(graph, node) for node in (measured[0], measured[-1]))
        lines.append(f"{_counted(measured)} from {first} to {last}, first: {measured[0].meta[REASON]}")
    return "; ".join([*lines, *single]) or None


def _counted(nodes: Sequence[ir.Node]) -> str:
    return ", ".join(f"{count} {op_type}" for op_type, count in Counter(node.op_type for node in nodes).items())


def weights_of(node: ir.Node) -> list[ir.Value]:
    """The constants that a node reads, also through a transposition."""
    weights = []
    for value in node.inputs:
        transpose = producer(value, "Transpose")
        source = value if transpose is None else transpose.inputs[0]
        if source is not None and is_weight(source):
            weights.append(source)
    return weights


def _reason(node: ir.Node, half: HalfType, kept: set[str], ranges: dict[str, float]) -> str | None:
    if node.op_type in _RULES and not node.domain:
        return _RULES[node.op_type]
    scales = _SCALES.get(node.op_type)
    if scales is not None and not _scales_fit(node.inputs[scales], half):
        return "its scales have more digits"
    for weight in weights_of(node):
        if not _is_float_value(weight):
            continue
        names = sorted(set(parameters_of(weight)) & kept)
        if names:
            return f"{names[0]} is kept"
        peak = largest(weight)
        if not peak <= LARGEST[half]:
            return f"{weight.name} reaches {peak:.3g}, above {LARGEST[half]:.5g}"
    limit = LARGEST[half] / SAFETY
    for value in (*node.inputs, *node.outputs):
        peak = ranges.get(value.name or "", 0.0) if value is not None else 0.0
        if peak > limit:
            assert value is not None
            return f"{value.name} reaches {peak:.3g}, above {limit:.5g}{_MEASURED}"
    return None


def _scales_fit(scales: ir.Value | None, half: HalfType) -> bool:
    """Whether a half type holds every scale exactly, so that the weights stay what calibration made of them."""
    if scales is None or scales.const_value is None:
        return False
    array = scales.const_value.numpy()
    with np.errstate(over="ignore"):
        rounded = array.astype(stored_type(half).numpy()).astype(array.dtype)
    return bool((rounded == array).all())


def _positional(graph: ir.Graph) -> dict[int, str]:
    """By id, nodes whose floats come from positions and masks alone, and those that bring them to others.

    Such floats come from integers, or are counted off by a `Range`.
    """
    activations = {id(value) for value in graph.inputs if _is_float_value(value)}
    integers: set[int] = set()
    reasons = {}
    for node in graph:
        floats = [value for value in node.inputs if value is not None and _is_float_value(value)]
        table = node.op_type == "Gather" and floats and is_weight(floats[0])
        meets = any(id(value) in integers for value in floats)
        if table or any(id(value) in activations for value in floats):
            activations |= {id(value) for value in node.outputs}
            if meets and node.op_type in _ELEMENTWISE:
                reasons[id(node)] = _MEETS
        elif not floats or meets or node.op_type == "Range":
            integers |= {id(value) for value in node.outputs if _is_float_value(value)}
            reasons[id(node)] = _POSITIONS
    return reasons


def _spread_over_weights(graph: ir.Graph) -> bool:
    """A large weight that one reader has in float32 is float32 for all: nothing is to be cast at every call."""
    changed = False
    for weight in graph.initializers.values():
        readers = weight.consumers()
        if weight.const_value is None or weight.const_value.size < _SHARED or not _is_float_value(weight):
            continue
        through = [user for node in readers if node.op_type == "Transpose" for user in node.outputs[0].consumers()]
        changed |= _spread([*readers, *through], f"reads {weight.name}, which another operator needs in float32")
    return changed


def _spread_over_states(graph: ir.Graph) -> bool:
    """What goes into a graph as a state and what comes out again are of one type."""
    spread = [_spread(users, f"its state {past.name} is float32") for past, _, users in states(graph)]
    return any(spread)


def _spread(nodes: Sequence[ir.Node], reason: str) -> bool:
    """Note all when one is noted; returns whether that changed any."""
    others = [node for node in nodes if REASON not in node.meta and node.op_type not in ANY_TYPE]
    if len(others) == len([node for node in nodes if node.op_type not in ANY_TYPE]):
        return False
    for node in others:
        node.meta[REASON] = reason
    return bool(others)


def states(graph: ir.Graph) -> list[tuple[ir.Value, ir.Value, list[ir.Node]]]:
    """(past, present, readers of the past and the maker of the present) of each state tensor that the graph writes."""
    outputs = {value.name: value for value in graph.outputs}
    state_values = []
    for past in graph.inputs:
        name = past.name or ""
        pair = next((pair for pair in STATE_PREFIXES.values() if name.startswith(pair[0])), None)
        if pair is not None:
            present = outputs.get(pair[1] + name.removeprefix(pair[0]))
            if present is None:
                continue  # an encoder's
            maker = present.producer()
            users = [*past.consumers(), *([] if maker is None else [maker])]
            state_values.append((past, present, [node for node in users if node.op_type not in ANY_TYPE]))
    return state_values


def _first_broken(graph: ir.Graph, ranges: dict[str, float], positional: dict[int, str]) -> ir.Node | None:
    """The first node that makes a NaN, or an infinity that no mask brought in."""
    for node in graph:
        if node.outputs[0].name not in ranges:
            continue
        peak = ranges[node.outputs[0].name]
        infinite = any(value is not None and math.isinf(_peak_of(value, ranges)) for value in node.inputs)
        if math.isnan(peak) or (math.isinf(peak) and not infinite and positional.get(id(node)) != _POSITIONS):
            return node
    return None


def _peak_of(value: ir.Value, ranges: dict[str, float]) -> float:
    small = is_weight(value) and _is_float_value(value) and value.const_value is not None
    if small and value.const_value.size < _SHARED:  # type: ignore[union-attr]
        return largest(value)
    return ranges.get(value.name or "", 0.0)


def _place(graph: ir.Graph, target: ir.Node) -> str:
    """Where a node is: its product's parameter, or the decoder layer that it lies in."""
    names = [name for weight in weights_of(target) for name in parameters_of(weight) if "." in name]
    ends = json.loads(graph.metadata_props.get(LAYERS_KEY, "[]"))
    if names or not ends:
        return names[0].removesuffix(".weight") if names else target.outputs[0].name or target.op_type
    before = itertools.takewhile(lambda node: node is not target, graph)
    layer = sum(output.name in ends for node in before for output in node.outputs)
    return f"layer {layer}" if layer < len(ends) else "the last norm and projection"


def _is_float(node: ir.Node) -> bool:
    return any(value is not None and _is_float_value(value) for value in (*node.inputs, *node.outputs))


def _is_float_value(value: ir.Value) -> bool:
    import onnx_ir as ir

    return value.dtype == ir.DataType.FLOAT
