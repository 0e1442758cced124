"""Weights -> integers with `DequantizeLinear` in blocks (ONNX opset 21): the portable form of weight-only quantization.

A product's weight is stored [K, N] with blocks along K; a tied embedding [V, C] with blocks along C, read by row and,
transposed, by the output projection. Which integers is somebody else's choice: this pass only stores them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from exporter.passes.match import add_initializer, dims, emit, is_weight, nodes_of, producer, replace
from exporter.passes.merge_weights import drop_unread, parameters_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir
    from calibration.formats import BlockQuantized


def candidates(graph: ir.Graph, *, quantized: Mapping[str, BlockQuantized]) -> int:
    """Products and embeddings whose weights have been quantized."""
    names = set(quantized)
    products = sum(1 for node in nodes_of(graph, "MatMul") if _parts(node.inputs[1], names))
    return products + sum(1 for node in nodes_of(graph, "Gather") if _parts(node.inputs[0], names))


def quantize_weights(graph: ir.Graph, *, quantized: Mapping[str, BlockQuantized]) -> int:
    """Replace each weight that ``quantized`` has, by parameter name; merged weights need all their parts there."""
    names = set(quantized)
    count = 0
    for node in nodes_of(graph, "Gather"):
        weight = node.inputs[0]
        parts = _parts(weight, names)
        if weight is None or not parts:
            continue
        codes, scales, zeros = _stored(graph, weight, [quantized[name] for name in parts], axis=1)
        rows = [emit(node, "Gather", [value, node.inputs[1]], {"axis": 0}) for value in (codes, scales, zeros)]
        block = quantized[parts[0]].format.block_size
        result = emit(node, "DequantizeLinear", rows, {"axis": 2, "block_size": block}, like=node.outputs[0])
        replace(node.outputs[0], result)
        graph.remove(node, safe=True)
        count += 1
    for node in nodes_of(graph, "MatMul"):
        weight = node.inputs[1]
        parts = _parts(weight, names)
        if weight is None or not parts:
            continue
        block = quantized[parts[0]].format.block_size
        transpose = producer(weight, "Transpose")
        stored = weight if transpose is None else transpose.inputs[0]
        assert stored is not None
        axis = 0 if transpose is None else 1
        inputs = _stored(graph, stored, [quantized[name] for name in parts], axis=axis)
        float_weight = emit(node, "DequantizeLinear", inputs, {"axis": axis, "block_size": block}, like=stored)
        if transpose is not None:
            float_weight = emit(node, "Transpose", [float_weight], {"perm": [1, 0]}, like=weight)
        node.replace_input_with(1, float_weight)
        count += 1
    drop_unread(graph, [value for value in list(graph.initializers.values()) if not value.uses()])
    return count


def _parts(weight: ir.Value | None, names: set[str]) -> tuple[str, ...]:
    """Names of the parameters in a weight, when it is one and all of them have been quantized."""
    transpose = producer(weight, "Transpose")
    if transpose is not None:
        weight = transpose.inputs[0]
    if weight is None or not is_weight(weight) or len(dims(weight) or ()) != 2:
        return ()
    parts = parameters_of(weight)
    return parts if parts and set(parts) <= names else ()


def _stored(
    graph: ir.Graph, weight: ir.Value, parts: Sequence[BlockQuantized], *, axis: int
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Initializers for codes, scales and zero points; a weight that is read twice is stored once."""
    import onnx_ir as ir

    name = weight.name or ""
    if f"{name}.codes" in graph.initializers:
        codes, scales, zeros = (graph.initializers[f"{name}.{kind}"] for kind in ("codes", "scales", "zero_points"))
        return codes, scales, zeros
    form = parts[0].format
    if any(part.format != form for part in parts):
        raise ValueError(f"the parts of {name} are quantized in different formats")
    integer = ir.DataType.UINT4 if form.bits == 4 else ir.DataType.UINT8
    rows = sum(part.codes.shape[0] for part in parts)
    values = []
    for kind, dtype in (("codes", integer), ("scales", ir.DataType.FLOAT), ("zero_points", integer)):
        width = parts[0].codes.shape[1] if kind == "codes" else parts[0].scales.shape[1]
        shape = (rows, width) if axis == 1 else (width, rows)
        tensor = ir.LazyTensor(
            partial(_tensor, parts, kind, dtype, transposed=axis == 0),
            dtype=dtype,
            shape=ir.Shape(shape),
            name=f"{name}.{kind}",
        )
        values.append(add_initializer(graph, tensor))
    return values[0], values[1], values[2]


def _tensor(parts: Sequence[BlockQuantized], kind: str, dtype: ir.DataType, *, transposed: bool) -> ir.TensorProtocol:
    import numpy as np
    import onnx_ir as ir

    array: npt.NDArray[np.generic] = np.concatenate([getattr(part, kind) for part in parts])
    array = np.ascontiguousarray(array.T) if transposed else array
    return ir.tensor(array.astype(dtype.numpy()))
