"""Stores weights the way that `MatMul` reads them, [K, N], instead of transposing [N, K] at run time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import add_initializer, is_weight, nodes_of, replace, sizes_of
from jisu.exporter.graph.merge_weights import arrange

if TYPE_CHECKING:
    import onnx_ir as ir

_ROWS = 256


def transpose_weights(graph: ir.Graph) -> int:
    """Replace `Transpose`(weight) by a transposed weight, computed only when it is written.

    A weight that something else reads too (an embedding tied to the output projection) stays as it is, since a second
    copy would have to be stored.
    """
    import onnx_ir as ir

    count = 0
    for node in nodes_of(graph, "Transpose"):
        weight = node.inputs[0]
        if not is_weight(weight) or not node.outputs[0].uses():
            continue
        assert weight is not None and weight.const_value is not None and weight.name is not None
        permutation = tuple(node.attributes.get_ints("perm", tuple(reversed(range(len(weight.shape or ()))))))
        users = weight.consumers()
        if any(user.op_type != "Transpose" or user.attributes.get_ints("perm") != permutation for user in users):
            continue
        tensor = weight.const_value
        sizes = sizes_of(tensor)
        shape = ir.Shape([sizes[axis] for axis in permutation])
        name = weight.name
        del graph.initializers[name]
        transposed = ir.LazyTensor(
            partial(_transposed, tensor, permutation),
            dtype=tensor.dtype,
            shape=shape,
            name=name,
        )
        arrange(transposed, [tensor])
        value = add_initializer(graph, transposed)
        for user in list(users):
            replace(user.outputs[0], value)
            graph.remove(user, safe=True)
        count += len(users)
    return count


def _transposed(tensor: ir.TensorProtocol, permutation: tuple[int, ...]) -> ir.TensorProtocol:
    import numpy as np
    import onnx_ir as ir

    array = tensor.numpy()
    if permutation != (1, 0):
        return ir.tensor(np.ascontiguousarray(array.transpose(permutation)))
    # Some rows at a time, whose columns stay in the cache: a tenth of the time that a large matrix takes as a whole.
    columns = np.empty(array.shape[::-1], array.dtype)
    for start in range(0, len(array), _ROWS):
        columns[:, start : start + _ROWS] = array[start : start + _ROWS].T
    return ir.tensor(columns)
