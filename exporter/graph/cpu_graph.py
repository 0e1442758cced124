"""A half-precision graph as CPUs run it: each half operator computed in float32 and its result rounded to half.

ONNX Runtime's CPU kernels know hardly any bfloat16, and between two float16 operators they keep float32: a number
that overflows on a GPU would pass unseen. Explicit casts are left alone, so that this graph rounds and overflows where
the other does. Both read the same file of weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.contract.artifact import CPU_ENCODER, CPU_GRAPH, ENCODER, GRAPH
from jisu.exporter.graph.match import emit

if TYPE_CHECKING:
    import onnx_ir as ir

# They move numbers without computing, and the runtime has them for both half types (onnxruntime 1.32).
_MOVES = frozenset({"Cast", "Shape", "Size", "Reshape", "Transpose", "Gather", "GatherND", "Concat", "TensorScatter"})


def write_cpu_graph(folder: Path) -> bool:
    """Write the file beside each graph that computes in half precision; returns whether any does."""
    import onnx_ir as ir

    changed = False
    for graph, beside in ((GRAPH, CPU_GRAPH), (ENCODER, CPU_ENCODER)):
        if not (folder / graph).is_file():
            continue
        model = ir.load(folder / graph)
        if widen_half(model.graph):
            ir.save(model, folder / beside)
            changed = True
    return changed


def widen_half(graph: ir.Graph) -> int:
    """Put casts around every operator that computes in half; returns how many there were."""
    widened: dict[int, ir.Value] = {}
    count = 0
    for node in list(graph):
        if node.op_type in _MOVES or not any(_is_half(value) for value in (*node.inputs, *node.outputs)):
            continue
        for index, value in enumerate(node.inputs):
            if value is not None and _is_half(value):
                if id(value) not in widened:
                    widened[id(value)] = _cast(node, value)
                node.replace_input_with(index, widened[id(value)])
        for value in node.outputs:
            if _is_half(value):
                _round_output(graph, node, value)
        count += 1
    return count


def _is_half(value: ir.Value | None) -> bool:
    import onnx_ir as ir

    return value is not None and value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _cast(before: ir.Node, value: ir.Value) -> ir.Value:
    import onnx_ir as ir

    result = emit(before, "Cast", [value], {"to": ir.DataType.FLOAT.value})
    result.name, result.type, result.shape = f"{value.name}.wide", ir.TensorType(ir.DataType.FLOAT), value.shape
    return result


def _round_output(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Let the operator give float32, and a cast behind it the value that others read, under its own name."""
    import onnx_ir as ir

    assert value.dtype is not None
    cast = ir.node("Cast", [value], {"to": value.dtype.value})
    graph.insert_after(node, cast)
    rounded = cast.outputs[0]
    name, rounded.type, rounded.shape = value.name, value.type, value.shape
    value.replace_all_uses_with(rounded, replace_graph_outputs=True)
    cast.replace_input_with(0, value)
    value.name, value.type, rounded.name = f"{name}.exact", ir.TensorType(ir.DataType.FLOAT), name
