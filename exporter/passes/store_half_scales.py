"""Scales of quantized weights in two bytes, behind a `Cast` that the runtime folds when it opens the graph.

Only scales that float16 holds exactly: the numbers that are computed with stay the same.

ONNX Runtime's product packs constant codes beforehand and then expects its scales to be constant too. Where nothing was
folded, because somebody has switched all optimizations off, it would give zeros without a word (1.32). So the codes
come through an `Identity`: folded like the `Cast`, or else not constant either, which is slow and right.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import add_initializer, emit, is_weight, nodes_of, sizes_of

if TYPE_CHECKING:
    import onnx_ir as ir

# Operator -> index of its scales among the inputs.
_SCALES = {"MatMulNBits": 2, "GatherBlockQuantized": 2}
_CODES = 1  # index of a product's codes
# Smaller constants are not worth a node.
_SMALLEST_BYTES = 1024


def count_places(graph: ir.Graph) -> int:
    """Constants that are scales and lose nothing."""
    return len(_scales(graph))


def store_half_scales(graph: ir.Graph) -> int:
    """Store each of them once, whoever reads it."""
    import onnx_ir as ir

    scales = _scales(graph)
    places = {id(node): place for place, node in enumerate(graph)}
    for value in scales:
        tensor = value.const_value
        assert tensor is not None and value.name is not None
        stored = add_initializer(
            graph,
            ir.LazyTensor(
                partial(_halved, tensor),
                dtype=ir.DataType.FLOAT16,
                shape=ir.Shape(sizes_of(tensor)),
                name=f"{value.name}.half",
            ),
        )
        readers = sorted((node for node in value.consumers() if id(node) in places), key=lambda node: places[id(node)])
        widened = emit(readers[0], "Cast", [stored], {"to": ir.DataType.FLOAT.value}, like=value)
        for node in readers:
            node.replace_input_with(_SCALES[node.op_type], widened)
            codes = node.inputs[_CODES]
            if node.op_type == "MatMulNBits" and codes is not None and is_weight(codes):
                node.replace_input_with(_CODES, emit(node, "Identity", [codes], like=codes))
        del graph.initializers[value.name]
    return len(scales)


def _scales(graph: ir.Graph) -> list[ir.Value]:
    import onnx_ir as ir

    scales: dict[int, ir.Value] = {}
    for op_type, index in _SCALES.items():
        for node in nodes_of(graph, op_type):
            value = node.inputs[index]
            if value is None or not is_weight(value) or value.dtype != ir.DataType.FLOAT or id(value) in scales:
                continue
            assert value.const_value is not None
            if value.const_value.nbytes >= _SMALLEST_BYTES and _is_half(value.const_value):
                scales[id(value)] = value
    return list(scales.values())


def _is_half(tensor: ir.TensorProtocol) -> bool:
    import numpy as np

    array = tensor.numpy()
    with np.errstate(over="ignore"):
        return bool((array.astype(np.float16).astype(np.float32) == array).all())


def _halved(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    import numpy as np
    import onnx_ir as ir

    return ir.tensor(tensor.numpy().astype(np.float16))
