"""`MatMul` with a block-dequantized weight -> ONNX Runtime's `MatMulNBits`, which never makes the float weight.

The operator stores B as uint8 [N, blocks, block_size * bits / 8], two 4-bit codes to a byte with the lower index in the
low half, scales float32 [N, blocks], and zero points packed the same way along the blocks of each row.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.graph.match import (
    add_initializer,
    emit,
    integer_bits,
    is_weight,
    nodes_of,
    producer,
    replace,
    sizes_of,
)
from jisu.exporter.graph.merge_weights import mark, marked
from jisu.exporter.passes.lower_gqa import DOMAIN

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

# int8 activations in the inner loop: the only level at which the CPU's kernels are fast.
ACCURACY_LEVEL = 4
BLOCK_SIZES = (16, 32, 64, 128, 256)


def count_places(graph: ir.Graph) -> int:
    return sum(1 for node in nodes_of(graph, "MatMul") if _dequantized(node) is not None)


def lower_matmul_nbits(graph: ir.Graph) -> int:
    """Replace each product with a weight [K, N] quantized along K, or with the transpose of one [N, K]."""
    count = 0
    for node in nodes_of(graph, "MatMul"):
        match = _dequantized(node)
        if match is None:
            continue
        dequantize, axis = match
        codes, scales, *zeros = dequantize.inputs
        assert codes is not None and scales is not None
        bits, block = integer_bits(codes), dequantize.attributes.get_int("block_size")
        rows, features = _sizes(codes, axis)
        blocks = -(-features // block)
        inputs = [
            node.inputs[0],
            stored(graph, codes, axis, bits=bits, shape=(rows, blocks, block * bits // 8)),
            stored(graph, scales, axis, bits=None, shape=(rows, blocks)),
        ]
        if zeros and zeros[0] is not None:
            inputs.append(stored(graph, zeros[0], axis, bits=bits, shape=(rows, -(-blocks * bits // 8))))
        attributes = {"K": features, "N": rows, "bits": bits, "block_size": block, "accuracy_level": ACCURACY_LEVEL}
        output = emit(node, "MatMulNBits", inputs, attributes, domain=DOMAIN, like=node.outputs[0])
        mark(output, marked(dequantize))
        replace(node.outputs[0], output)
        graph.remove(node, safe=True)
        graph.opset_imports.setdefault(DOMAIN, 1)
        count += 1
    return count


def _dequantized(node: ir.Node) -> tuple[ir.Node, int] | None:
    """(DequantizeLinear, axis of its blocks in a two-dimensional weight) behind a product."""
    weight = node.inputs[1]
    transpose = producer(weight, "Transpose")
    dequantize = producer(weight if transpose is None else transpose.inputs[0], "DequantizeLinear")
    if dequantize is None or not all(is_weight(value) for value in dequantize.inputs):
        return None
    axis = 0 if transpose is None else 1
    codes, block = dequantize.inputs[0], dequantize.attributes.get_int("block_size", 0)
    if codes is None or dequantize.attributes.get_int("axis", 1) != axis or block not in BLOCK_SIZES:
        return None
    return dequantize, axis


def _sizes(codes: ir.Value, axis: int) -> tuple[int, int]:
    """(N, K) of a weight whose blocks run along ``axis``."""
    assert codes.const_value is not None
    first, second = sizes_of(codes.const_value)
    return (second, first) if axis == 0 else (first, second)


def stored(
    graph: ir.Graph, value: ir.Value, axis: int, *, bits: int | None, shape: tuple[int, ...], kind: str = "packed"
) -> ir.Value:
    """The constant as the operators read it: rows first, codes packed into bytes; made once however often it is read.

    Args:
        axis: along which the blocks run, 0 or 1.
        bits: of one code; None for scales, which are not packed.
        kind: ends the new name; two kinds of one value hold the same bytes in different shapes.
    """
    import onnx_ir as ir

    name = f"{value.name}.{kind}"
    if name in graph.initializers:
        return graph.initializers[name]
    assert value.const_value is not None
    dtype = value.const_value.dtype if bits is None else ir.DataType.UINT8
    return add_initializer(
        graph,
        ir.LazyTensor(
            partial(_packed, value.const_value, axis, bits, shape), dtype=dtype, shape=ir.Shape(shape), name=name
        ),
    )


def _packed(tensor: ir.TensorProtocol, axis: int, bits: int | None, shape: tuple[int, ...]) -> ir.TensorProtocol:
    import numpy as np
    import onnx_ir as ir

    array: Any = tensor.numpy()
    if bits is not None:
        # Signed codes belong to a symmetric weight; the operators' default zero point is the middle of the codes.
        if tensor.dtype in (ir.DataType.INT4, ir.DataType.INT8):
            # Sums of uint8 have 8 bits: those of a negative code's and the middle are the unsigned code.
            array = array.astype(np.int8, copy=False).view(np.uint8) + np.uint8(1 << (bits - 1))
        else:
            array = array.astype(np.uint8, copy=False)
    array = array.T if axis == 0 else array
    if bits is not None:
        # Codes behind the last feature of a short block, which no input meets.
        width = math.prod(shape[1:]) * 8 // bits
        if width > array.shape[1]:
            array = np.pad(array, ((0, 0), (0, width - array.shape[1])))
    return ir.tensor(np.ascontiguousarray(pack_nibbles(array) if bits == 4 else array).reshape(shape))


def pack_nibbles(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 [N, M] of 4-bit codes -> uint8 [N, ceil(M / 2)]; the lower index lies in the low half."""
    import numpy as np

    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    packed: npt.NDArray[np.uint8] = np.bitwise_or(even[:, 0::2], even[:, 1::2] << 4, dtype=np.uint8)
    return packed
