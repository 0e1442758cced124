"""Removes operators that hand their input through, and pairs that undo each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import constant, dims, emit, producer, replace, scalar

if TYPE_CHECKING:
    import onnx_ir as ir

_TO_THE_END = 1 << 31


def remove_noops(graph: ir.Graph) -> int:
    """Bypass no-op slices, casts, products with one and reshapes, and cancel neighbouring transposes and reshapes."""
    count, changed = 0, True
    while changed:
        changed = False
        for node in list(graph):
            source = _unchanged(node)
            if source is None:
                source = _merged(graph, node)
            if source is None or not _replaceable(node, source):
                continue
            replace(node.outputs[0], source) if not _is_outside(source) else node.outputs[0].replace_all_uses_with(
                source
            )
            graph.remove(node, safe=True)
            count, changed = count + 1, True
    return count


def _replaceable(node: ir.Node, source: ir.Value) -> bool:
    """An output of the graph keeps its name, which a graph input or another output cannot take."""
    output = node.outputs[0]
    if not output.is_graph_output():
        return True
    return not (_is_outside(source) or source.is_graph_output())


def _is_outside(value: ir.Value) -> bool:
    return value.is_graph_input() or value.is_graph_output() or value.const_value is not None


def _unchanged(node: ir.Node) -> ir.Value | None:
    """The input when the node's output is the same tensor."""
    source = node.inputs[0] if node.inputs else None
    if source is None:
        return None
    same = dims(source) is not None and dims(source) == dims(node.outputs[0])
    if node.op_type == "Identity":
        return source
    if node.op_type == "Cast":
        return source if source.dtype is not None and source.dtype.value == node.attributes.get_int("to", 0) else None
    if node.op_type == "Slice" and same:
        starts, ends = constant(node.inputs[1]), constant(node.inputs[2])
        steps = constant(node.inputs[4]) if len(node.inputs) > 4 else None
        whole = starts is not None and ends is not None and (starts == 0).all() and (ends >= _TO_THE_END).all()
        return source if whole and (steps is None or bool((steps == 1).all())) else None
    if node.op_type == "Mul" and same:
        return source if scalar(node.inputs[1]) == 1.0 else None
    if node.op_type == "Reshape" and same and sum(isinstance(dim, str) for dim in dims(source) or ()) <= 2:
        return source if _is_static(node) else None
    if node.op_type == "Transpose":
        order = node.attributes.get_ints("perm", ())
        return source if list(order) == list(range(len(order))) and order else None
    return None


def _merged(graph: ir.Graph, node: ir.Node) -> ir.Value | None:
    """What replaces two transposes or two reshapes in a row."""
    source = node.inputs[0] if node.inputs else None
    before = producer(source, node.op_type)
    if before is None or before.inputs[0] is None:
        return None
    if node.op_type == "Transpose":
        first, second = _permutation(before), _permutation(node)
        if first and second and [first[axis] for axis in second] == list(range(len(second))):
            return before.inputs[0]
    if node.op_type == "Reshape" and _is_static(node) and _is_static(before):
        target = constant(node.inputs[1])
        whole, original = dims(node.outputs[0]), dims(before.inputs[0])
        if target is None or whole is None or original is None:
            return None
        if whole == original:
            return before.inputs[0]
        kept = [place for place, size in enumerate(target.tolist()) if size == 0]
        if all(place < len(original) and whole[place] == original[place] for place in kept):
            return emit(node, "Reshape", [before.inputs[0], node.inputs[1]], like=node.outputs[0])
    return None


def _permutation(transpose: ir.Node) -> list[int]:
    source = transpose.inputs[0]
    rank = len(dims(source) or ()) if source is not None else 0
    return list(transpose.attributes.get_ints("perm", tuple(reversed(range(rank)))))


def _is_static(reshape: ir.Node) -> bool:
    return constant(reshape.inputs[1]) is not None
