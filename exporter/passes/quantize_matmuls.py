"""Products of two 8-bit factors (W8A8) in standard operators: int8 weights with a scale per column, rounded inputs.

Static: the input goes through `QuantizeLinear` and `DequantizeLinear` with a fixed symmetric scale, the weight through
`DequantizeLinear`, which is the form that TensorRT reads. Dynamic: every token is divided by a scale of its own, which
its largest value gives, and `MatMulInteger` multiplies the codes. (`DynamicQuantizeLinear` has one scale for the whole
tensor, with which a row's result depends on the other rows of its batch.) Where an input has a lower bound, all
codes are there for what is above it, and its own product is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import add_initializer, emit, is_weight, new_constant, nodes_of, replace
from jisu.exporter.graph.merge_weights import drop_unread, mark, parameters_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import ActivationFormat, Int8Matmul, Quantized


def count_places(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Products whose weights and inputs are to be integers."""
    return sum(1 for node in nodes_of(graph, "MatMul") if _products(node, quantized))


def quantize_matmuls(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Replace each product whose weight ``quantized`` has with an input of 8 bits; an input is rounded once."""
    count = 0
    rounded: dict[tuple[int, ActivationFormat], list[ir.Value]] = {}
    # A weight may be multiplied with several inputs; it is stored once.
    stored: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
    bounds: dict[ir.Value, ir.Value] = {}
    for node in nodes_of(graph, "MatMul"):
        parts = _products(node, quantized)
        source, weight = node.inputs
        if not parts or source is None or weight is None:
            continue
        form = parts[0].format
        if any(part.format != form for part in parts):
            raise ValueError(f"the parts of {weight.name} round their input differently")
        if weight not in stored:
            stored[weight] = _stored(graph, weight, parts)
        codes, scales = stored[weight]
        key = (id(source), form)
        if key not in rounded:
            rounded[key] = _rounded(graph, node, source, parts[0])
        if form.activation is None:
            result = _product_of_codes(graph, node, rounded[key], codes, scales, parameters_of(weight))
            if form.lower_bound:
                if weight not in bounds:
                    constant = _product_of_bound(parts, name=f"{weight.name}.bound_product")
                    bounds[weight] = add_initializer(graph, constant)
                result = emit(node, "Add", [result, bounds[weight]], like=node.outputs[0])
                mark(result, parameters_of(weight))
        else:
            float_weight = emit(node, "DequantizeLinear", [codes, scales], {"axis": 1}, like=weight)
            mark(float_weight, parameters_of(weight))
            result = emit(node, "MatMul", [*rounded[key], float_weight], like=node.outputs[0])
        replace(node.outputs[0], result)
        graph.remove(node, safe=True)
        drop_unread(graph, [weight])
        count += 1
    return count


def _products(node: ir.Node, quantized: Mapping[str, Quantized]) -> list[Int8Matmul]:
    """What the parameters in a product's weight became, when all of them became int8 matmuls."""
    from jisu.calibration.w8a8.matmul import Int8Matmul

    weight = node.inputs[1]
    if weight is None or not is_weight(weight):
        return []
    parts = [quantized.get(name) for name in parameters_of(weight)]
    products = [part for part in parts if isinstance(part, Int8Matmul)]
    return products if len(products) == len(parts) else []


def _rounded(graph: ir.Graph, node: ir.Node, source: ir.Value, part: Int8Matmul) -> list[ir.Value]:
    """The rounded input: one float32 value; or codes, each token's scale found at run time, and the codes of zero."""
    import numpy as np
    import onnx_ir as ir

    fixed = part.format.activation
    if fixed is None:
        return _rounded_by_token(graph, node, source, part)
    name = f"{source.name}.input"
    scale = new_constant(graph, f"{name}_scale", np.array(fixed.scale, np.float32))
    zero = new_constant(graph, f"{name}_zero_point", np.array(fixed.zero_point, np.dtype(fixed.dtype)))
    codes = emit(node, "QuantizeLinear", [source, scale, zero])
    codes.type, codes.shape = ir.TensorType(ir.DataType[fixed.dtype.upper()]), source.shape
    return [emit(node, "DequantizeLinear", [codes, scale, zero], like=source)]


def _rounded_by_token(graph: ir.Graph, node: ir.Node, source: ir.Value, part: Int8Matmul) -> list[ir.Value]:
    """Codes uint8 like x, round(x / s) + 128, and s = max|x| / 127 of each token, float32 [..., 1].

    Of an input with a lower bound, round((x - bound) / s) and s = max(x - bound) / 255.
    """
    import numpy as np
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import SMALLEST_MAGNITUDE

    each = ir.Value(type=source.type, shape=ir.Shape([*(source.shape or [])[:-1], 1]))
    last = new_constant(graph, "last_axis", np.array([-1], np.int64))
    # So that a token of zeros is divided by something.
    least = new_constant(graph, "least_magnitude", np.array(SMALLEST_MAGNITUDE, np.float32))
    one = new_constant(graph, "unit_scale", np.array(1, np.float32))
    bound = part.format.lower_bound
    if bound is not None:
        if bound:
            # The source has its channels divided by their scales already.
            channels = np.float32(1) if part.channel_scales is None else part.channel_scales
            moved = np.full(part.codes.shape[1], bound, np.float32) / channels
            source = emit(node, "Sub", [source, new_constant(graph, f"{source.name}.bound", moved)], like=source)
        share = new_constant(graph, "share_of_largest", np.array(1 / 255, np.float32))
        zero = new_constant(graph, "unsigned_least", np.array(0, np.uint8))
        magnitudes = [emit(node, "ReduceMax", [source, last], like=each)]
    else:
        share = new_constant(graph, "share_of_magnitude", np.array(1 / 127, np.float32))
        zero = new_constant(graph, "unsigned_middle", np.array(128, np.uint8))
        high = emit(node, "ReduceMax", [source, last], like=each)
        magnitudes = [high, emit(node, "Neg", [emit(node, "ReduceMin", [source, last], like=each)], like=each)]
    scale = emit(node, "Mul", [emit(node, "Max", [*magnitudes, least], like=each), share], like=each)
    codes = emit(node, "QuantizeLinear", [emit(node, "Div", [source, scale], like=source), one, zero])
    codes.type, codes.shape = ir.TensorType(ir.DataType.UINT8), source.shape
    return [codes, scale, zero]


def _product_of_codes(
    graph: ir.Graph,
    node: ir.Node,
    rounded: Sequence[ir.Value],
    codes: ir.Value,
    scales: ir.Value,
    parameters: Sequence[str],
) -> ir.Value:
    """(codes of x - codes of zero) @ codes of w, times both scales."""
    import onnx_ir as ir

    values, scale, zero = rounded
    output = node.outputs[0]
    product = emit(node, "MatMulInteger", [values, codes, zero])
    product.type, product.shape = ir.TensorType(ir.DataType.INT32), output.shape
    mark(product, parameters)
    product = emit(node, "Cast", [product], {"to": ir.DataType.FLOAT.value}, like=output)
    product = emit(node, "Mul", [product, scales], like=output)
    mark(product, parameters)
    return emit(node, "Mul", [product, scale], like=output)


def _stored(graph: ir.Graph, weight: ir.Value, parts: Sequence[Int8Matmul]) -> tuple[ir.Value, ir.Value]:
    """Initializers for the codes int8 [K, N] and the scales float32 [N]."""
    import onnx_ir as ir

    rows, features = sum(len(part.codes) for part in parts), parts[0].codes.shape[1]
    codes = ir.LazyTensor(
        partial(_codes, parts), dtype=ir.DataType.INT8, shape=ir.Shape((features, rows)), name=f"{weight.name}.codes"
    )
    scales = ir.LazyTensor(
        partial(_scales, parts), dtype=ir.DataType.FLOAT, shape=ir.Shape((rows,)), name=f"{weight.name}.scales"
    )
    return add_initializer(graph, codes), add_initializer(graph, scales)


def _codes(parts: Sequence[Int8Matmul]) -> ir.TensorProtocol:
    import numpy as np
    import onnx_ir as ir

    return ir.tensor(np.ascontiguousarray(np.concatenate([part.codes for part in parts]).T))


def _scales(parts: Sequence[Int8Matmul]) -> ir.TensorProtocol:
    import numpy as np
    import onnx_ir as ir

    return ir.tensor(np.concatenate([part.scales for part in parts]))


def _product_of_bound(parts: Sequence[Int8Matmul], *, name: str) -> ir.TensorProtocol:
    """The product of the bound alone, which the codes are without: bound * sum over K of w, float32 [N]."""
    import numpy as np
    import onnx_ir as ir

    bound = parts[0].format.lower_bound
    sums = [piece.sum(axis=1, dtype=np.float64) for part in parts for piece in part.dequantize_pieces()]
    return ir.tensor((bound * np.concatenate(sums)).astype(np.float32), name=name)
