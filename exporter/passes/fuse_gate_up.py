"""The two projections that open a gated feed-forward layer -> one product and a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import dims, emit, is_weight, nodes_of, producer, replace
from jisu.exporter.graph.merge_weights import concat_weights, drop_unread, quantized_alike

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Quantized


def fuse_gate_up(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Merge x @ gate and x @ up where an element-wise product joins what comes of them.

    Weights that are quantized in different formats stay apart.
    """
    import onnx_ir as ir

    count = 0
    for product in nodes_of(graph, "Mul"):
        pair = _gate_and_up(product)
        if pair is None:
            continue
        gate, _ = pair
        weights = [node.inputs[1] for node in pair if node.inputs[1] is not None]
        if not quantized_alike(weights, quantized):
            continue
        source, width = gate.inputs[0], (dims(weights[0]) or ())[1]
        whole = dims(gate.outputs[0])
        if source is None or whole is None or not isinstance(width, int):
            continue
        name = (weights[0].name or "").rsplit(".", 2)[0] + ".gate_up_proj.weight"
        both = emit(gate, "MatMul", [source, concat_weights(graph, weights, name)])
        both.type, both.shape = source.type, ir.Shape([*whole[:-1], 2 * width])
        halves = [ir.Value(type=node.outputs[0].type, shape=node.outputs[0].shape) for node in pair]
        emit(gate, "Split", [both], {"axis": -1, "num_outputs": 2}, outputs=halves)
        for node, half in zip(pair, halves, strict=True):
            replace(node.outputs[0], half)
            graph.remove(node, safe=True)
        drop_unread(graph, weights)
        count += 1
    return count


def _gate_and_up(product: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """(gate, up) of act(x @ gate) * (x @ up), two products of one input with weights of one shape."""
    for one, other in (product.inputs, reversed(product.inputs)):
        up = producer(other, "MatMul")
        if up is None or not is_weight(up.inputs[1]) or one is None or other is None or len(other.uses()) != 1:
            continue
        gate = _under_activation(one)
        if gate is None or gate is up or gate.inputs[0] is not up.inputs[0]:
            continue
        weights = [node.inputs[1] for node in (gate, up)]
        if all(is_weight(weight) and len(weight.uses()) == 1 for weight in weights if weight is not None):
            shapes = {dims(weight) for weight in weights if weight is not None}
            if len(shapes) == 1 and len(shapes.pop() or ()) == 2:
                return gate, up
    return None


def _under_activation(value: ir.Value) -> ir.Node | None:
    """The product that an element-wise function of one tensor was computed from: y, gelu(y), y * sigmoid(y) ..."""
    for _ in range(3):
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "MatMul":
            return node
        inputs = [item for item in node.inputs if item is not None and not is_weight(item)]
        if node.op_type not in ("Mul", "Sigmoid", "Gelu", "Relu", "Tanh", "QuickGelu") or not inputs:
            return None
        value = next((item for item in inputs if producer(item, "MatMul") is not None), inputs[0])
    return None
