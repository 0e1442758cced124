"""Writes the causality of an `Attention` as a boolean mask: runtimes align ``is_causal`` differently.

ONNX aligns it with the first key (upper left). TensorRT does so whatever the operator's version and lengths, and
refuses it beside a mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import dims, emit, new_constant, nodes_of

if TYPE_CHECKING:
    import onnx_ir as ir


def count_places(graph: ir.Graph) -> int:
    """Attentions over whole sequences that are declared causal; one with a past of its own is left to the lint."""
    return sum(_is_causal(node) for node in nodes_of(graph, "Attention"))


def explicit_causal_mask(graph: ir.Graph) -> int:
    """Let query i see the keys up to i by a mask [T, S], and what the node's own boolean mask allows besides."""
    count = 0
    for node in nodes_of(graph, "Attention"):
        if not _is_causal(node):
            continue
        mask = _lower_left(graph, node)
        own = node.inputs[3] if len(node.inputs) > 3 else None
        if own is not None:
            mask = emit(node, "And", [own, mask], like=own)
        inputs = [*node.inputs[:3], mask]
        node.resize_inputs(4)
        for index, value in enumerate(inputs):
            node.replace_input_with(index, value)
        del node.attributes["is_causal"]
        count += 1
    return count


def _is_causal(node: ir.Node) -> bool:
    import onnx_ir as ir

    if not node.attributes.get_int("is_causal", 0) or any(value is not None for value in node.inputs[4:]):
        return False
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    return mask is None or mask.dtype == ir.DataType.BOOL


def _lower_left(graph: ir.Graph, node: ir.Node) -> ir.Value:
    """bool [T, S], True where the key's number is not above the query's."""
    import numpy as np
    import onnx_ir as ir

    query, key = node.inputs[:2]
    assert query is not None and key is not None
    numbers = []
    for value in (query, key):
        size = emit(node, "Squeeze", [emit(node, "Shape", [value], {"start": -2, "end": -1})])
        zero, one = (new_constant(graph, f"number_{n}", np.array(n, np.int64)) for n in (0, 1))
        count = emit(node, "Range", [zero, size, one])
        count.type, count.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([(dims(value) or ("T",))[-2]])
        numbers.append(count)
    last = new_constant(graph, "axis_last", np.array([1], np.int64))
    column = emit(node, "Unsqueeze", [numbers[0], last])
    column.type, column.shape = numbers[0].type, ir.Shape([(dims(query) or ("T",))[-2], 1])
    mask = emit(node, "GreaterOrEqual", [column, numbers[1]])
    mask.type = ir.TensorType(ir.DataType.BOOL)
    mask.shape = ir.Shape([(dims(query) or ("T",))[-2], (dims(key) or ("S",))[-2]])
    return mask
