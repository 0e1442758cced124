"""Residual sum and norm -> ONNX Runtime's `SkipSimplifiedLayerNormalization`, which also hands on the sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import dims, emit, is_weight, nodes_of, producer, replace
from jisu.exporter.passes.lower_gqa import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir


def count_places(graph: ir.Graph) -> int:
    """Sums that a norm reads; where two norms read one sum, one of them can take it in."""
    additions = [_residual(node) for node in nodes_of(graph, "RMSNormalization")]
    return len({id(add) for add in additions if add is not None})


def lower_skip_norm(graph: ir.Graph) -> int:
    """Fuse each RMS norm with the sum of two hidden states in front of it."""
    import onnx_ir as ir

    count = 0
    for norm in nodes_of(graph, "RMSNormalization"):
        add = _residual(norm)
        if add is None:
            continue
        total, weight = add.outputs[0], norm.inputs[1]
        outputs = [ir.Value(), ir.Value(), ir.Value(), ir.Value(type=total.type, shape=total.shape)]
        attributes = {"epsilon": norm.attributes.get_float("epsilon", 1e-5)}
        emit(add, "SkipSimplifiedLayerNormalization", [*add.inputs, weight], attributes, domain=DOMAIN, outputs=outputs)
        replace(norm.outputs[0], outputs[0])
        replace(total, outputs[3])
        graph.remove((norm, add), safe=True)
        graph.opset_imports.setdefault(DOMAIN, 1)
        count += 1
    return count


def _residual(norm: ir.Node) -> ir.Node | None:
    """The sum in front of a norm over the last axis, of two tensors [B, T, C]."""
    weight = norm.inputs[1]
    if norm.attributes.get_int("axis", -1) != -1 or weight is None or not is_weight(weight):
        return None
    add = producer(norm.inputs[0], "Add")
    if add is None or add.outputs[0].is_graph_output():
        return None
    if dims(weight) != (dims(add.outputs[0]) or ("",))[-1:]:
        return None  # the operator wants a weight as long as the axis
    first, second = (dims(value) if value is not None else None for value in add.inputs)
    if first is None or first != second or len(first) != 3 or any(is_weight(value) for value in add.inputs):
        return None
    return add
