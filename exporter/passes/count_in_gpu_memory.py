"""Counts in the GPU's memory what would be copied there from the CPU's: sizes that meet other numbers.

A GPU's runtime keeps shapes, and what is computed from them alone, in the CPU's memory. A call in which something
of there is copied to the GPU on the way cannot be recorded as a CUDA graph (onnxruntime-gpu 1.31).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import dims, is_weight

if TYPE_CHECKING:
    import onnx_ir as ir

# What the runtime computes on the CPU when all that it reads is there.
_FOLLOWS = frozenset({"Squeeze", "Unsqueeze", "Cast", "Neg", "Add", "Sub", "Mul", "Div", "Min", "Max", "Mod"})
# What reads all its inputs in the GPU's memory; operators that take sizes read those in the CPU's.
_MEETS = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max", "Mod", "Pow", "Where", "And", "Or"}) | frozenset(
    {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"}
)


def count_places(graph: ir.Graph) -> int:
    """Inputs of operators on the GPU that come from sizes."""
    return len(_places(graph))


def count_in_gpu_memory(graph: ir.Graph) -> int:
    """Give each of them the sum of as many ones; returns how many there are."""
    places = _places(graph)
    made: dict[int, ir.Value] = {}
    for node, index in places:
        value = node.inputs[index]
        assert value is not None
        node.replace_input_with(index, _counted(value, made))
    return len(places)


def _places(graph: ir.Graph) -> list[tuple[ir.Node, int]]:
    sizes: set[int] = set()
    places = []
    for node in graph:
        inputs = [value for value in node.inputs if value is not None and not is_weight(value)]
        if _is_size(node) or (node.op_type in _FOLLOWS and inputs and all(id(value) in sizes for value in inputs)):
            sizes.add(id(node.outputs[0]))
        elif node.op_type in _MEETS:
            places += [(node, index) for index, value in enumerate(node.inputs) if id(value) in sizes]
    return places


def _is_size(node: ir.Node) -> bool:
    """Whether it tells one size, int64 [1]."""
    if node.op_type != "Shape" or node.domain:
        return False
    start, end = (node.attributes.get_int(name, 0) for name in ("start", "end"))
    return end - start == 1 or dims(node.outputs[0]) == (1,)


def _counted(value: ir.Value, made: dict[int, ir.Value]) -> ir.Value:
    """The same number, computed where the sum is; each once, right behind what it replaces."""
    import numpy as np
    import onnx_ir as ir

    if id(value) in made or is_weight(value):
        return made.get(id(value), value)
    node = value.producer()
    assert node is not None and node.graph is not None
    if _is_size(node):
        ones = ir.node("ConstantOfShape", [value], {"value": ir.tensor(np.array([1], np.int64))})
        ones.outputs[0].type, ones.outputs[0].shape = value.type, ir.Shape([None])
        copy = ir.node("ReduceSum", ones.outputs, {"keepdims": 1})
        node.graph.insert_after(node, [ones, copy])
    else:
        inputs = [item if item is None else _counted(item, made) for item in node.inputs]
        attributes = list(node.attributes.values())
        copy = ir.Node("", node.op_type, inputs, attributes)
        node.graph.insert_after(node, copy)
    result = copy.outputs[0]
    result.type, result.shape = value.type, value.shape
    made[id(value)] = result
    return result
