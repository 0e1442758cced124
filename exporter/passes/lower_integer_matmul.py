"""Products of rounded inputs and int8 weights -> ONNX Runtime's int8 matmuls, which give float32 at once.

A fixed input scale becomes `QuantizeLinear` to uint8 and `MatMulIntegerToFloat`, which adds a bias itself: on x86 the
kernels are fast for unsigned inputs only, and the same grid shifted by 128 is unsigned. Where every token has its own
scale, the operator multiplies with those of the weight, and the token's are multiplied with as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import constant, emit, is_weight, new_constant, nodes_of, producer, replace, used_once
from jisu.exporter.graph.merge_weights import mark, marked
from jisu.exporter.passes.lower_gqa import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

_SHIFT = 128


def count_places(graph: ir.Graph) -> int:
    fixed = sum(1 for node in nodes_of(graph, "MatMul") if fixed_product(node) is not None)
    return fixed + sum(1 for node in nodes_of(graph, "MatMulInteger") if _scaled(node) is not None)


def lower_integer_matmul(graph: ir.Graph) -> int:
    """Replace each product of an input and a weight that both have 8 bits."""
    import numpy as np

    count = 0
    rounded: dict[int, tuple[ir.Value, ir.Value]] = {}
    for node in nodes_of(graph, "MatMul"):
        product = fixed_product(node)
        if product is None:
            continue
        quantize, weight = product
        if id(quantize) not in rounded:
            rounded[id(quantize)] = _unsigned(graph, quantize)
        codes, zero = rounded[id(quantize)]
        inputs = [codes, weight.inputs[0], quantize.inputs[1], weight.inputs[1], zero]
        last, done = node.outputs[0], [node]
        if (added := _bias(last)) is not None:
            bias, add = added
            inputs += [None, bias]  # the weight has no zero point
            last, done = add.outputs[0], [node, add]
        output = emit(node, "MatMulIntegerToFloat", inputs, domain=DOMAIN, like=last)
        mark(output, marked(weight))
        replace(last, output)
        graph.remove(done, safe=True)
        count += 1
    for node in nodes_of(graph, "MatMulInteger"):
        scaled = _scaled(node)
        if scaled is None:
            continue
        scales, last = scaled
        one = new_constant(graph, "unit_scale", np.array(1, np.float32))
        inputs = [node.inputs[0], node.inputs[1], one, scales, node.inputs[2]]
        output = emit(node, "MatMulIntegerToFloat", inputs, domain=DOMAIN, like=last)
        mark(output, marked(node))
        replace(last, output)
        count += 1
    if count:
        graph.opset_imports.setdefault(DOMAIN, 1)
    return count


def fixed_product(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
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


def _scaled(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """(weight scales, the product times them) of a `MatMulInteger` with a constant zero point for its input only."""
    if len(node.inputs) != 3 or constant(node.inputs[2]) is None or not is_weight(node.inputs[1]):
        return None
    cast = _only_user(node.outputs[0], "Cast")
    last = None if cast is None else _only_user(cast.outputs[0], "Mul")
    if last is None or cast is None or last.inputs[0] is not cast.outputs[0] or not is_weight(last.inputs[1]):
        return None
    scales = last.inputs[1]
    assert scales is not None
    return scales, last.outputs[0]


def _bias(product: ir.Value) -> tuple[ir.Value, ir.Node] | None:
    """(bias [N], what adds it) of a product that nothing else reads."""
    add = _only_user(product, "Add")
    if add is None:
        return None
    bias = next((value for value in add.inputs if value is not None and value is not product), None)
    columns = (product.shape or [None])[-1]
    if bias is None or not is_weight(bias) or list(bias.shape or []) != [columns]:
        return None
    return bias, add


def _only_user(value: ir.Value, op_type: str) -> ir.Node | None:
    users = list(value.consumers())
    return users[0] if used_once(value) and users[0].op_type == op_type else None
