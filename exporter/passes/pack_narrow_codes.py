"""Codes of 8 bits that have fewer, in as many bits of the file, behind operators that the runtime folds.

ONNX Runtime multiplies with 2, 4 and 8 bits. Weights of 5, 6 and 7 bits are codes of 8 that end in zeros
(`calibration.weights.kernel_codes`), and those zeros are not stored. Which codes have how many bits is somebody else's
choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from jisu.exporter.contract.code_planes import can_store
from jisu.exporter.graph.code_planes import store_planes
from jisu.exporter.graph.match import emit, is_weight, new_constant, sizes_of
from jisu.exporter.graph.merge_weights import drop_unread, marked
from jisu.exporter.precision.precision import MOST_STORED_CODES, STORED_BITS

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Quantized

# Operator -> index of its codes among the inputs.
_CODES = {"MatMulNBits": 1, "GatherBlockQuantized": 0}


def count_places(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Operators that read codes of fewer than 8 bits."""
    return len(list(_narrow(graph, quantized)))


def pack_narrow_codes(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Store the bits that codes have, once for all operators that read them."""
    import numpy as np

    unpacked: dict[tuple[str, int], ir.Value] = {}
    places = list(_narrow(graph, quantized))
    for node, codes, bits in places:
        assert codes.const_value is not None and codes.name is not None
        sizes, stem = sizes_of(codes.const_value), codes.name.rpartition(".")[0]
        key = stem, codes.const_value.nbytes
        if key not in unpacked:
            unpacked[key] = store_planes(graph, node, codes, bits=bits, name=stem)
        value = unpacked[key]
        if len(sizes) > 2:
            shape = new_constant(graph, f"blocks_of_{sizes[-1]}", np.array([0, -1, sizes[-1]], np.int64))
            value = emit(node, "Reshape", [value, shape], like=codes)
        node.replace_input_with(_CODES[node.op_type], value)
    drop_unread(graph, [codes for _, codes, _ in places])
    return len(places)


def _narrow(graph: ir.Graph, quantized: Mapping[str, Quantized]) -> Iterator[tuple[ir.Node, ir.Value, int]]:
    """(operator, its codes, bits that they have), in the order of the graph; nothing where there are too many."""
    from jisu.calibration.weights.formats import BlockQuantized

    narrow = {id(part): part for part in quantized.values() if isinstance(part, BlockQuantized)}
    if sum(part.codes.size for part in narrow.values() if part.format.bits in STORED_BITS) > MOST_STORED_CODES:
        return
    for node in graph:
        if node.op_type not in _CODES:
            continue
        codes = node.inputs[_CODES[node.op_type]]
        parts = [quantized.get(name) for name in marked(node)]
        if codes is None or codes.const_value is None or not is_weight(codes):
            continue
        bits = {part.format.bits if isinstance(part, BlockQuantized) else 0 for part in parts}
        stored = bits.pop() if len(bits) == 1 else 0
        features = codes.const_value.nbytes // sizes_of(codes.const_value)[0]
        if stored in STORED_BITS and can_store(features):
            yield node, codes, stored
