"""Gives the mask of an `Attention` a row for each query where it has one for all of them.

By its specification the operator takes both; ONNX Runtime 1.32 takes no mask whose rows have to be repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import dims, emit, new_constant, nodes_of

if TYPE_CHECKING:
    import onnx_ir as ir


def widen_masks(graph: ir.Graph) -> int:
    """Repeat the one row of each such mask with `Expand`, once for all attentions that read it."""
    import numpy as np
    import onnx_ir as ir

    widened: dict[tuple[int, int | str], ir.Value] = {}
    count = 0
    for node in nodes_of(graph, "Attention"):
        query, mask = node.inputs[0], node.inputs[3] if len(node.inputs) > 3 else None
        if query is None or mask is None:
            continue
        sizes, queries = dims(mask), (dims(query) or ("", ""))[-2]
        if sizes is None or len(sizes) < 2 or sizes[-2] != 1 or queries == 1:
            continue
        key = (id(mask), queries)
        if key not in widened:
            count_of = emit(node, "Shape", [query], {"start": -2, "end": -1})
            count_of.type, count_of.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
            one = new_constant(graph, "one_row", np.array([1], np.int64))
            shape = emit(node, "Concat", [count_of, one], {"axis": 0})
            shape.type, shape.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([2])
            widened[key] = emit(node, "Expand", [mask, shape])
            widened[key].type, widened[key].shape = mask.type, ir.Shape([*sizes[:-2], queries, sizes[-1]])
        node.replace_input_with(3, widened[key])
        count += 1
    return count
