"""Recurrent layers whose weights are integers of 8 bits with a scale for every row.

The weights are stored as integers and become floats again: once, when the runtime folds constants (`ort-cpu`), or at
every call (`DequantizeLinear`). ONNX Runtime has an operator for LSTMs that multiplies integers
(`DynamicQuantizeLSTM`, two to three times as fast), which is not used: it takes one range for the inputs of all rows,
so that an answer would depend on what else stands in its batch (ONNX Runtime 1.32).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jisu.exporter.graph.match import emit, is_weight, new_constant
from jisu.exporter.graph.merge_weights import drop_unread, mark
from jisu.exporter.graph.recurrent_weights import GATE_ORDERS, directions_of, in_onnx_form

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Int8Matmul, Quantized

_WEIGHT, _RECURRENCE = 1, 2  # places among the inputs


def count_places(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Recurrent operators both of whose weights have been quantized."""
    return sum(_parts(node, quantized) is not None for node in graph)


def quantize_recurrent(graph: ir.Graph, *, quantized: Mapping[str, Quantized], target: str) -> int:
    """Replace the weights of every recurrent operator that ``quantized`` has, by parameter name."""
    count = 0
    for node in list(graph):
        parts = _parts(node, quantized)
        if parts is None:
            continue
        for place, products in zip((_WEIGHT, _RECURRENCE), parts, strict=True):
            _store_integers(graph, node, place, products, target=target)
        count += 1
    drop_unread(graph, [value for value in list(graph.initializers.values()) if not value.uses()])
    return count


_Products = Sequence["Int8Matmul"]


def _names(node: ir.Node, place: int) -> tuple[str, ...]:
    weight = node.inputs[place]
    directions = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
    return directions_of((weight.name if weight is not None else None) or "", directions)


def _parts(node: ir.Node, quantized: Mapping[str, Quantized]) -> tuple[_Products, _Products] | None:
    """The integers of the weights for input and state, all directions; None where any is missing."""
    from jisu.calibration.w8a8.matmul import Int8Matmul

    if node.op_type not in GATE_ORDERS or node.domain or not all(map(is_weight, node.inputs[1:3])):
        return None
    stored = [[quantized.get(name) for name in _names(node, place)] for place in (_WEIGHT, _RECURRENCE)]
    whole = [[part for part in parts if isinstance(part, Int8Matmul)] for parts in stored]
    return (whole[0], whole[1]) if [len(parts) for parts in whole] == [len(parts) for parts in stored] else None


def _stacked(operator: str, products: _Products) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    """Codes int8 [D, G*H, K] and scales float32 [D, G*H] in the operator's order."""
    codes = in_onnx_form(operator, [product.codes for product in products])
    return codes, in_onnx_form(operator, [product.scales for product in products])


def _store_integers(graph: ir.Graph, node: ir.Node, place: int, products: _Products, *, target: str) -> None:
    import numpy as np
    import onnx_ir as ir

    weight = node.inputs[place]
    assert weight is not None
    codes, scales = _stacked(node.op_type, products)
    # A layer that runs twice has its weights once.
    stored = new_constant(graph, f"{weight.name}.codes", codes)
    scale = new_constant(graph, f"{weight.name}.scales", np.ascontiguousarray(scales[..., None]))
    if target == "ort-cpu":
        wide = emit(node, "Cast", [stored], {"to": ir.DataType.FLOAT.value})
        wide.type, wide.shape = weight.type, weight.shape
        mark(wide, _names(node, place))
        floats = emit(node, "Mul", [wide, scale], like=weight)
    else:
        floats = emit(node, "DequantizeLinear", [stored, scale], _row_blocks(codes), like=weight)
        mark(floats, _names(node, place))
    node.replace_input_with(place, floats)


def _row_blocks(codes: npt.NDArray[np.generic]) -> dict[str, Any]:
    return {"axis": 2, "block_size": codes.shape[2]}
