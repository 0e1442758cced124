"""Weights -> integers with `DequantizeLinear` in blocks (ONNX opset 21): the portable form of weight-only quantization.

A product's weight is stored [K, N] with blocks along K, or one scale for each of the N; a tied embedding [V, C] with
blocks along C, read by row and, transposed, by the output projection. Which integers is somebody else's choice: this
pass only stores them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.graph.block_sums import append_block_sums
from jisu.exporter.graph.match import add_initializer, dims, emit, is_weight, nodes_of, producer, replace
from jisu.exporter.graph.merge_weights import drop_unread, mark, parameters_of
from jisu.exporter.precision.precision import STORED_BITS, kernel_bits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Quantized
    from jisu.calibration.weights.formats import BlockQuantized


# An embedding is read with Gather, which takes whole bytes only.
_GATHERED_BITS = 8
# bits -> signed and unsigned integer types; what kernels do not take has 8 bits in the graph
_INTEGERS = {4: ("INT4", "UINT4"), 8: ("INT8", "UINT8"), **dict.fromkeys(STORED_BITS, ("INT8", "UINT8"))}


def count_places(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Products and embeddings whose weights have been quantized in blocks."""
    names = set(_in_blocks(quantized))
    products = sum(1 for node in nodes_of(graph, "MatMul") if _parts(node.inputs[1], names))
    return products + sum(1 for node in nodes_of(graph, "Gather") if _parts(node.inputs[0], names))


def quantize_weights(graph: ir.Graph, *, quantized: Mapping[str, Quantized], target: str) -> int:
    """Replace each weight that ``quantized`` has in blocks, by parameter name; merged ones need all their parts there.

    Where the target has an operator of its own for embeddings, their gathered codes may have fewer bits for the while.
    """
    known = _in_blocks(quantized)
    names = set(known)
    count = 0
    for node in nodes_of(graph, "Gather"):
        weight = node.inputs[0]
        parts = _parts(weight, names)
        if weight is None or not parts:
            continue
        if target == "portable" and kernel_bits(known[parts[0]].format.bits) != _GATHERED_BITS:
            raise ValueError(
                f"the embedding {weight.name} needs {_GATHERED_BITS} bits: ONNX gathers no smaller integers"
            )
        block = known[parts[0]].format.block_size
        if not block:
            raise ValueError(f"the embedding {weight.name} needs blocks: its rows are gathered with their scales")
        constants = _stored(graph, weight, [known[name] for name in parts], axis=1)
        rows = [emit(node, "Gather", [value, node.inputs[1]], {"axis": 0}) for value in constants]
        result = emit(node, "DequantizeLinear", rows, {"axis": 2, "block_size": block}, like=node.outputs[0])
        mark(result, parts)
        replace(node.outputs[0], result)
        graph.remove(node, safe=True)
        count += 1
    for node in nodes_of(graph, "MatMul"):
        weight = node.inputs[1]
        parts = _parts(weight, names)
        if weight is None or not parts:
            continue
        transpose = producer(weight, "Transpose")
        stored = weight if transpose is None else transpose.inputs[0]
        assert stored is not None
        axis = 0 if transpose is None else 1
        constants = _stored(graph, stored, [known[name] for name in parts], axis=axis)
        block = known[parts[0]].format.block_size
        attributes = {"axis": axis, "block_size": block} if block else {"axis": 1 - axis}
        float_weight = emit(node, "DequantizeLinear", constants, attributes, like=stored)
        mark(float_weight, parts)
        if transpose is not None:
            float_weight = emit(node, "Transpose", [float_weight], {"perm": [1, 0]}, like=weight)
        node.replace_input_with(1, float_weight)
        if known[parts[0]].sums:
            sums = known[parts[0]].sums
            append_block_sums(node, features=known[parts[0]].codes.shape[1] - sums, block_size=block, sums=sums)
        count += 1
    drop_unread(graph, [value for value in list(graph.initializers.values()) if not value.uses()])
    return count


def _in_blocks(quantized: Mapping[str, Quantized]) -> dict[str, BlockQuantized]:
    from jisu.calibration.weights.formats import BlockQuantized

    return {name: value for name, value in quantized.items() if isinstance(value, BlockQuantized)}


def _parts(weight: ir.Value | None, names: set[str]) -> tuple[str, ...]:
    """Names of the parameters in a weight, when it is one and all of them have been quantized."""
    transpose = producer(weight, "Transpose")
    if transpose is not None:
        weight = transpose.inputs[0]
    if weight is None or not is_weight(weight) or len(dims(weight) or ()) != 2:
        return ()
    parts = parameters_of(weight)
    return parts if parts and set(parts) <= names else ()


def _stored(graph: ir.Graph, weight: ir.Value, parts: Sequence[BlockQuantized], *, axis: int) -> list[ir.Value]:
    """Initializers for codes, scales and zero points; a weight that is read twice is stored once.

    Symmetric weights are stored as signed integers without zero points, which is the one form that TensorRT takes.
    """
    import onnx_ir as ir

    form = parts[0].format
    if any(part.format != form or part.sums != parts[0].sums for part in parts):
        raise ValueError(f"the parts of {weight.name} are quantized in different formats")
    signed, unsigned = _INTEGERS[form.bits]
    integer = ir.DataType[signed if form.symmetric else unsigned]
    kinds = {"codes": integer, "scales": ir.DataType.FLOAT}
    if not form.symmetric:
        kinds["zero_points"] = integer
    if f"{weight.name}.codes" in graph.initializers:
        return [graph.initializers[f"{weight.name}.{kind}"] for kind in kinds]
    rows = sum(part.codes.shape[0] for part in parts)
    values = []
    for kind, dtype in kinds.items():
        width = getattr(parts[0], kind).shape[1]
        flat = kind != "codes" and not form.block_size
        sizes = (rows,) if flat else (rows, width) if axis == 1 else (width, rows)
        tensor = ir.LazyTensor(
            partial(_tensor, parts, kind, dtype, transposed=axis == 0, flat=flat),
            dtype=dtype,
            shape=ir.Shape(sizes),
            name=f"{weight.name}.{kind}",
        )
        values.append(add_initializer(graph, tensor))
    return values


def _tensor(
    parts: Sequence[BlockQuantized], kind: str, dtype: ir.DataType, *, transposed: bool, flat: bool
) -> ir.TensorProtocol:
    import numpy as np
    import onnx_ir as ir

    from jisu.calibration.weights.kernel_codes import to_kernel_codes

    wide = [to_kernel_codes(part) for part in parts]
    arrays = [getattr(part, kind) for part in wide]
    array: npt.NDArray[np.generic] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    if kind == "codes" and parts[0].format.symmetric:
        # Differences of uint8 have 8 bits, which as a signed number are the code.
        array = np.subtract(array, np.uint8(wide[0].format.middle)).view(np.int8)
    array = array.reshape(-1) if flat else np.ascontiguousarray(array.T) if transposed else array
    return ir.tensor(array.astype(dtype.numpy(), copy=False))
