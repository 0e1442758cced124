"""Products of rounded inputs and int8 weights -> ONNX Runtime's integer products, which give float32 at once.

A fixed input scale becomes `QuantizeLinear` to uint8 and `MatMulIntegerToFloat`: on x86 the kernels are fast for
unsigned inputs only, and the same grid shifted by 128 is unsigned. A scale found at run time: `DynamicQuantizeMatMul`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.passes.lower_gqa import DOMAIN
from exporter.passes.match import constant, emit, is_weight, new_constant, nodes_of, producer, replace
from exporter.passes.merge_weights import mark, marked

if TYPE_CHECKING:
    import onnx_ir as ir

_SHIFT = 128


def candidates(graph: ir.Graph) -> int:
    fixed = sum(1 for node in nodes_of(graph, "MatMul") if _fixed(node) is not None)
    return fixed + sum(1 for node in nodes_of(graph, "MatMulInteger") if _dynamic(node) is not None)


def lower_integer_matmul(graph: ir.Graph) -> int:
    """Replace each product of an input and a weight that both have 8 bits."""
    count = 0
    rounded: dict[int, tuple[ir.Value, ir.Value]] = {}
    for node in nodes_of(graph, "MatMul"):
        found = _fixed(node)
        if found is None:
            continue
        quantize, weight = found
        if id(quantize) not in rounded:
            rounded[id(quantize)] = _unsigned(graph, quantize)
        codes, zero = rounded[id(quantize)]
        inputs = [codes, weight.inputs[0], quantize.inputs[1], weight.inputs[1], zero]
        output = emit(node, "MatMulIntegerToFloat", inputs, domain=DOMAIN, like=node.outputs[0])
        mark(output, marked(weight))
        replace(node.outputs[0], output)
        graph.remove(node, safe=True)
        count += 1
    for node in nodes_of(graph, "MatMulInteger"):
        end = _dynamic(node)
        if end is None:
            continue
        quantize, scales, last = end
        output = emit(
            node, "DynamicQuantizeMatMul", [quantize.inputs[0], node.inputs[1], scales], domain=DOMAIN, like=last
        )
        mark(output, marked(node))
        replace(last, output)
        count += 1
    if count:
        graph.opset_imports.setdefault(DOMAIN, 1)
    return count


def _fixed(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """(QuantizeLinear of the input, DequantizeLinear of the weight) of a product."""
    values, weight = (producer(value, "DequantizeLinear") for value in node.inputs)
    if values is None or weight is None or not all(is_weight(value) for value in weight.inputs):
        return None
    quantize = producer(values.inputs[0], "QuantizeLinear")
    if quantize is None or weight.attributes.get_int("block_size", 0) != 0 or weight.attributes.get_int("axis", 1) != 1:
        return None
    if any(constant(value) is None for value in quantize.inputs[1:]):
        return None
    same = all(one is other for one, other in zip(quantize.inputs[1:], values.inputs[1:], strict=True))
    return (quantize, weight) if same else None


def _unsigned(graph: ir.Graph, quantize: ir.Node) -> tuple[ir.Value, ir.Value]:
    """(codes, zero point) of the same rounding with uint8 codes."""
    import numpy as np
    import onnx_ir as ir

    source, scale, zero = quantize.inputs
    known = constant(zero)
    assert source is not None and scale is not None and zero is not None and known is not None
    shift = _SHIFT if known.dtype == np.int8 else 0
    moved = new_constant(graph, f"{zero.name}.unsigned", np.array(int(known) + shift, np.uint8))
    codes = emit(quantize, "QuantizeLinear", [source, scale, moved])
    codes.type, codes.shape = ir.TensorType(ir.DataType.UINT8), source.shape
    return codes, moved


def _dynamic(node: ir.Node) -> tuple[ir.Node, ir.Value, ir.Value] | None:
    """(DynamicQuantizeLinear, weight scales, scaled product) around a `MatMulInteger`."""
    quantize = producer(node.inputs[0], "DynamicQuantizeLinear")
    if quantize is None or len(node.inputs) != 3 or node.inputs[2] is not quantize.outputs[2]:
        return None
    cast = _only_user(node.outputs[0], "Cast")
    last = None if cast is None else _only_user(cast.outputs[0], "Mul")
    both = None if last is None else next((p for v in last.inputs if (p := producer(v, "Mul")) is not None), None)
    if last is None or both is None or both.inputs[0] is not quantize.outputs[1] or not is_weight(both.inputs[1]):
        return None
    scales = both.inputs[1]
    assert scales is not None
    return quantize, scales, last.outputs[0]


def _only_user(value: ir.Value, op_type: str) -> ir.Node | None:
    users = list(value.consumers())
    return users[0] if len(value.uses()) == 1 and users[0].op_type == op_type else None
