"""Puts the input of a matmul into the order in which its weight's columns are stored.

A checkpoint may round input features in groups that are no neighbours (GPTQ's act-order). Its codes are stored with the
features of a group side by side, which the kernels need, and what they multiply is gathered in the same order: the
same products and the same numbers. Weights that are quantized are the only ones that have such an order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import add_initializer, emit, is_weight, nodes_of
from jisu.exporter.graph.merge_weights import parameters_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Quantized

_ORDERED = "ordered_inputs"


def count_places(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Matmuls whose weights have their columns in another order."""
    return sum(1 for node in nodes_of(graph, "MatMul") if _columns(node, quantized) is not None)


def order_inputs(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Gather the input of each of them; matmuls with one input and one order read the same gathered one."""
    import onnx_ir as ir

    gathered: dict[tuple[int, bytes], ir.Value] = {}
    count = 0
    for node in nodes_of(graph, "MatMul"):
        columns, source = _columns(node, quantized), node.inputs[0]
        if columns is None or source is None:
            continue
        key = (id(source), columns.tobytes())
        if key not in gathered:
            order = add_initializer(graph, ir.tensor(columns, name=f"{_parameters(node)[0]}.columns"))
            gathered[key] = emit(node, "Gather", [source, order], {"axis": -1}, like=source)
        node.replace_input_with(0, gathered[key])
        node.meta[_ORDERED] = True
        count += 1
    return count


def _parameters(node: ir.Node) -> tuple[str, ...]:
    """Names of the parameters in a matmul's weight, [K, N] or the transpose of [N, K]."""
    from jisu.exporter.graph.match import producer

    weight = node.inputs[1]
    transpose = producer(weight, "Transpose")
    if transpose is not None:
        weight = transpose.inputs[0]
    return parameters_of(weight) if weight is not None and is_weight(weight) else ()


def _columns(node: ir.Node, quantized: Mapping[str, Quantized]) -> npt.NDArray[np.int64] | None:
    """The order of a weight's columns; None when it is their own, or when the input is in it already."""
    parts = _parameters(node)
    if _ORDERED in node.meta or not parts or not set(parts) <= set(quantized):
        return None
    return getattr(quantized[parts[0]], "columns", None)
