"""`Gemm` -> `MatMul` and `Add`: a linear layer over one vector a row looks like every other one then.

The tracer writes it for inputs [B, C]. Weights are quantized as factors of `MatMul`; runtimes join the two again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import dims, emit, is_weight, nodes_of, replace

if TYPE_CHECKING:
    import onnx_ir as ir


def split_gemm(graph: ir.Graph) -> int:
    """Split every x @ weight + bias without factors, the weight transposed or not."""
    import onnx_ir as ir

    count = 0
    for node in nodes_of(graph, "Gemm"):
        source, weight, *bias = node.inputs
        attributes = node.attributes
        plain = attributes.get_float("alpha", 1.0) == 1.0 and attributes.get_float("beta", 1.0) == 1.0
        if (
            not plain
            or attributes.get_int("transA", 0) != 0
            or source is None
            or weight is None
            or not is_weight(weight)
        ):
            continue
        if attributes.get_int("transB", 0) != 0:
            sizes = dims(weight) or ()
            weight = emit(node, "Transpose", [weight], {"perm": [1, 0]})
            weight.type, weight.shape = node.inputs[1].type, ir.Shape(reversed(sizes))  # type: ignore[union-attr]
        result = emit(node, "MatMul", [source, weight], like=node.outputs[0])
        if bias and bias[0] is not None:
            result = emit(node, "Add", [result, bias[0]], like=node.outputs[0])
        replace(node.outputs[0], result)
        graph.remove(node, safe=True)
        count += 1
    return count
