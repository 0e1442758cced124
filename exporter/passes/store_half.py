"""Weights in half the bytes, computed with in float32: a half initializer behind a `Cast` that the runtime folds.

For runtimes without half arithmetic. Nothing is computed differently, and nothing is faster; only the file is smaller.
An embedding is read first and cast afterwards, row by row.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import add_initializer, dims, emit, is_weight, nodes_of, replace, sizes_of
from jisu.exporter.graph.merge_weights import parameters_of, unarranged
from jisu.exporter.graph.recurrent_weights import GATE_ORDERS
from jisu.exporter.precision.precision import LARGEST, HalfType

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    import onnx_ir as ir

# Metadata of a half constant in the file: the parameters that it holds, side by side, separated by spaces.
ROUNDED_FROM = "jisu.rounded_from"
_PEAK = "largest magnitude"


def count_places(graph: ir.Graph, *, half: HalfType, kept: AbstractSet[str]) -> int:
    """Weights of products and embeddings that ``half`` can hold and nobody wants in float32."""
    return sum(_reason(value, half, kept) is None for value in _weights(graph))


def note(graph: ir.Graph, *, half: HalfType, kept: AbstractSet[str]) -> str | None:
    """Which weights stay float32, and why; None when none does."""
    reasons = [(value.name, _reason(value, half, kept)) for value in _weights(graph)]
    return "; ".join(f"{name} stays float32: {reason}" for name, reason in reasons if reason is not None) or None


def store_half(graph: ir.Graph, *, half: HalfType, kept: AbstractSet[str]) -> int:
    """Store each large weight in ``half``, once, whoever reads it.

    Args:
        kept: names of parameters that stay float32; a merged weight stays when one of its parts does.
    """
    import onnx_ir as ir

    count = 0
    for weight in _weights(graph):
        if _reason(weight, half, kept) is not None:
            continue
        stored = half_weight(graph, weight, half)
        widened = None
        for node in [user for user in graph if any(item is weight for item in user.inputs)]:
            if node.op_type == "Gather":
                rows = emit(node, "Gather", [stored, node.inputs[1]], {"axis": 0})
                rows.type, rows.shape = ir.TensorType(stored_type(half)), node.outputs[0].shape
                replace(
                    node.outputs[0], emit(node, "Cast", [rows], {"to": ir.DataType.FLOAT.value}, like=node.outputs[0])
                )
                graph.remove(node, safe=True)
                continue
            if widened is None:  # in front of the first reader; the others come later
                widened = emit(node, "Cast", [stored], {"to": ir.DataType.FLOAT.value}, like=weight)
            for index, item in enumerate(node.inputs):
                if item is weight:
                    node.replace_input_with(index, widened)
        del graph.initializers[weight.name or ""]
        rename(graph, stored, weight.name or "")
        count += 1
    return count


def stored_type(half: HalfType) -> ir.DataType:
    """The half precision's ONNX element type."""
    import onnx_ir as ir

    return ir.DataType[half.upper()]


def half_weight(graph: ir.Graph, weight: ir.Value, half: HalfType) -> ir.Value:
    """A new constant of the same numbers rounded to the nearest, ties to even; rounded when it is written."""
    import onnx_ir as ir

    tensor = weight.const_value
    assert tensor is not None
    sizes, dtype, name = sizes_of(tensor), stored_type(half), f"{weight.name}.half"
    value = add_initializer(
        graph, ir.LazyTensor(partial(_rounded, tensor, dtype), dtype=dtype, shape=ir.Shape(sizes), name=name)
    )
    if len(sizes) > 1:
        value.metadata_props[ROUNDED_FROM] = " ".join(parameters_of(weight))
    return value


def rename(graph: ir.Graph, value: ir.Value, name: str) -> None:
    """Give a constant a name that has become free, in the graph and in its own record."""
    assert value.name is not None and value.const_value is not None
    del graph.initializers[value.name]
    value.name = value.const_value.name = name
    graph.initializers[name] = value


def largest(weight: ir.Value) -> float:
    """The largest magnitude in a constant; NaN when it holds one."""
    import numpy as np

    if _PEAK not in weight.meta:  # several passes ask, and a weight is made anew each time that it is read
        assert weight.const_value is not None
        # An order of the numbers that takes time to make is of no matter here.
        arrays = (tensor.numpy() for tensor in unarranged(weight.const_value))
        peaks = [max(array.max(), -array.min()) for array in arrays if array.size]
        weight.meta[_PEAK] = float(np.max(peaks)) if peaks else 0.0
    peak: float = weight.meta[_PEAK]
    return peak


def _rounded(tensor: ir.TensorProtocol, dtype: ir.DataType) -> ir.TensorProtocol:
    import onnx_ir as ir

    return ir.tensor(tensor.numpy().astype(dtype.numpy()))


def _weights(graph: ir.Graph) -> list[ir.Value]:
    """Float32 matrices of products, transposed or not, embeddings, and weights of recurrent layers."""
    import onnx_ir as ir

    weights: dict[int, ir.Value] = {}
    recurrent = [(op_type, index) for op_type in GATE_ORDERS for index in (1, 2)]
    for op_type, index in (("MatMul", 1), ("Gemm", 1), ("Gather", 0), ("Transpose", 0), *recurrent):
        for node in nodes_of(graph, op_type):
            value = node.inputs[index]
            if value is None or not is_weight(value) or value.dtype != ir.DataType.FLOAT or len(dims(value) or ()) < 2:
                continue
            if op_type != "Gather" or node.attributes.get_int("axis", 0) == 0:
                weights[id(value)] = value
    return list(weights.values())


def _reason(weight: ir.Value, half: HalfType, kept: AbstractSet[str]) -> str | None:
    """Why a weight stays float32; None when it need not."""
    names = sorted(set(parameters_of(weight)) & set(kept))
    if names:
        return f"{names[0]} is kept"
    peak = largest(weight)
    # Written so that NaN stays as it is, for the gate to find.
    return None if peak <= LARGEST[half] else f"it reaches {peak:.3g}, above {LARGEST[half]:.5g}"
