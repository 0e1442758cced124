"""The portable graph computed in half precision: every operator has one float type, and each change of it is a `Cast`.

What TensorRT's strong typing and ONNX Runtime's GPU kernels take. Operators that `keep_float` noted stay in float32;
norms take their statistics and attention its softmax in float32 inside their operators; logits leave as float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import STATE_PREFIXES
from jisu.exporter.graph.match import emit
from jisu.exporter.passes.keep_float import ANY_TYPE, REASON, kept_nodes, states
from jisu.exporter.passes.store_half import half_weight, rename, stored_type
from jisu.exporter.precision.precision import HalfType

if TYPE_CHECKING:
    import onnx_ir as ir

_FLOAT = 1  # onnx.TensorProto.FLOAT


def count_places(graph: ir.Graph) -> int:
    """Operators on float32 that nothing keeps there."""
    return sum(_converts(node) for node in graph)


def note(graph: ir.Graph) -> str | None:
    """Which operators stay in float32, and why."""
    kept = kept_nodes(graph)
    return None if kept is None else f"float32: {kept}"


def compute_half(graph: ir.Graph, *, half: HalfType) -> int:
    """Give every operator but the noted ones the type ``half``; returns how many there are of them.

    A state tensor that only half operators read and write becomes ``half`` as well, and one that an encoder writes does
    in any case, since its graph and the one that reads it have to agree. Other inputs and outputs keep their types.

    Raises:
        InputError: the graph has branches or loops, whose insides are another graph.
    """
    import onnx_ir as ir

    nodes = list(graph)
    converted = {id(node) for node in nodes if _converts(node)}
    if not converted:
        return 0
    _refuse_subgraphs(nodes)
    dtype = stored_type(half)
    _convert_state(graph, dtype)
    for node in nodes:
        if id(node) in converted:
            if node.op_type == "Attention":
                node.attributes["softmax_precision"] = ir.AttrInt64("softmax_precision", _FLOAT)
            for output in node.outputs:
                if output.dtype == ir.DataType.FLOAT:
                    output.type = ir.TensorType(dtype)
    _convert_weights(graph, converted, half)
    casts: dict[tuple[int, ir.DataType], ir.Value] = {}
    for node in nodes:
        float_type = dtype if id(node) in converted else ir.DataType.FLOAT
        for index, value in enumerate(node.inputs):
            if value is None or node.op_type in ANY_TYPE or value.dtype in (float_type, None):
                continue
            if value.dtype in (dtype, ir.DataType.FLOAT):
                if (id(value), float_type) not in casts:
                    casts[id(value), float_type] = _cast(node, value, float_type)
                node.replace_input_with(index, casts[id(value), float_type])
    for value in list(graph.outputs):
        if value.dtype == dtype and not _is_state(value):
            _cast_output(graph, value, to=ir.DataType.FLOAT)
        elif value.dtype == ir.DataType.FLOAT and _is_encoded(value):
            _cast_output(graph, value, to=dtype)
    return len(converted)


def _converts(node: ir.Node) -> bool:
    """Whether it computes with float32 and is not noted; casts follow from their neighbours."""
    import onnx_ir as ir

    if REASON in node.meta or node.op_type in ANY_TYPE:
        return False
    return any(value is not None and value.dtype == ir.DataType.FLOAT for value in (*node.inputs, *node.outputs))


def _is_state(value: ir.Value) -> bool:
    prefixes = tuple(prefix for pair in STATE_PREFIXES.values() for prefix in pair)
    return (value.name or "").startswith(prefixes)


def _is_encoded(value: ir.Value) -> bool:
    return (value.name or "").startswith(STATE_PREFIXES["encoder"])


def _convert_state(graph: ir.Graph, dtype: ir.DataType) -> None:
    """Change the type of each state input that `keep_float` did not keep, and of each that an encoder wrote."""
    import onnx_ir as ir

    for value in graph.inputs:
        if _is_encoded(value) and value.dtype == ir.DataType.FLOAT:
            value.type = ir.TensorType(dtype)
    for past, _, users in states(graph):
        if past.dtype == ir.DataType.FLOAT and not any(REASON in node.meta for node in users):
            past.type = ir.TensorType(dtype)


def _convert_weights(graph: ir.Graph, converted: set[int], half: HalfType) -> None:
    """Store what half operators read in half; a small constant that both kinds read is stored in both types."""
    import onnx_ir as ir

    for weight in list(graph.initializers.values()):
        if weight.dtype != ir.DataType.FLOAT or weight.is_graph_input() or weight.const_value is None:
            continue
        readers = weight.consumers()
        ours = [node for node in readers if id(node) in converted]
        if not ours:
            continue
        stored = half_weight(graph, weight, half)
        for node in ours:
            for index, item in enumerate(node.inputs):
                if item is weight:
                    node.replace_input_with(index, stored)
        if len(ours) == len(readers):
            assert weight.name is not None
            name = weight.name
            del graph.initializers[name]
            rename(graph, stored, name)


def _cast(before: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    import onnx_ir as ir

    result = emit(before, "Cast", [value], {"to": dtype.value})
    result.type, result.shape = ir.TensorType(dtype), value.shape
    result.name = f"{value.name}.{dtype.name.lower()}"
    return result


def _cast_output(graph: ir.Graph, value: ir.Value, *, to: ir.DataType) -> None:
    """Let a result leave the graph as another type under its own name."""
    import onnx_ir as ir

    node = ir.node("Cast", [value], {"to": to.value})
    graph.append(node)
    name = value.name
    value.name = f"{name}.{'half' if to == ir.DataType.FLOAT else 'exact'}"
    output = node.outputs[0]
    output.name, output.type, output.shape = name, ir.TensorType(to), value.shape
    graph.outputs[list(graph.outputs).index(value)] = output


def _refuse_subgraphs(nodes: Iterable[ir.Node]) -> None:
    import onnx_ir as ir

    for node in nodes:
        if any(item.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for item in node.attributes.values()):
            raise InputError(
                f"A graph with {node.op_type} cannot be computed in half precision",
                received=f"{node.op_type} {node.name}",
                allowed="graphs without branches and loops",
                fix="Choose --precision fp32.",
            )
