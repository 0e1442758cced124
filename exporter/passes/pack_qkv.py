"""Three projections of one input in front of `GroupQueryAttention` -> one, which the operator reads packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import dims, emit, is_weight, nodes_of, producer, used_once
from jisu.exporter.graph.merge_weights import concat_weights, drop_unread, quantized_alike

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Quantized


def pack_qkv(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Merge query, key and value projections, biases included, where nothing lies between them and the attention.

    Weights that are quantized in different formats stay apart.
    """
    import onnx_ir as ir

    count = 0
    for node in nodes_of(graph, "GroupQueryAttention"):
        matches = [_projection(value) for value in node.inputs[:3]]
        projections = [item for item in matches if item is not None]
        if len(projections) != 3 or len({id(item.source) for item in projections}) != 1:
            continue
        if len({item.bias is None for item in projections}) != 1:
            continue
        weights = [item.weight for item in projections]
        if not quantized_alike(weights, quantized):
            continue
        name = _common_name(weights)
        source = projections[0].source
        packed = emit(node, "MatMul", [source, concat_weights(graph, weights, f"{name}.weight")])
        whole = dims(source)
        widths = [(dims(weight) or ())[1] for weight in weights]
        packed.type = source.type
        if whole is not None and all(isinstance(width, int) for width in widths):
            packed.shape = ir.Shape([*whole[:2], sum(int(width) for width in widths)])
        biases = [item.bias for item in projections if item.bias is not None]
        if biases:
            packed = emit(node, "Add", [packed, concat_weights(graph, biases, f"{name}.bias")], like=packed)
        node.replace_input_with(0, packed)
        node.replace_input_with(1, None)
        node.replace_input_with(2, None)
        for item in projections:
            graph.remove(item.nodes, safe=True)
        drop_unread(graph, [*weights, *biases])
        count += 1
    return count


@dataclass(frozen=True, kw_only=True)
class _Projection:
    source: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    nodes: tuple[ir.Node, ...]


def _projection(value: ir.Value | None) -> _Projection | None:
    """x @ weight (+ bias) that only the attention reads."""
    if value is None or not used_once(value):
        return None
    add = producer(value, "Add")
    bias = None
    if add is not None:
        first, second = add.inputs
        value, bias = (second, first) if is_weight(first) else (first, second)
        if not is_weight(bias) or bias is None or value is None or not used_once(value):
            return None
    matmul = producer(value, "MatMul")
    if matmul is None or not is_weight(matmul.inputs[1]):
        return None
    source, weight = matmul.inputs
    assert source is not None and weight is not None
    sizes = dims(weight) or ()
    # A bias that broadcasts has no place beside the others, and a vector no columns.
    if len(sizes) != 2 or (bias is not None and dims(bias) != sizes[1:]):
        return None
    nodes = (matmul,) if add is None else (add, matmul)
    return _Projection(source=source, weight=weight, bias=bias, nodes=nodes)


def _common_name(weights: list[ir.Value]) -> str:
    """model.layers.0.self_attn.{q,k,v}_proj.weight -> model.layers.0.self_attn.qkv_proj"""
    parent = (weights[0].name or "").rsplit(".", 2)[0]
    return f"{parent}.qkv_proj"
