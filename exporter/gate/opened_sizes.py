"""How much memory the weights of a graph take when a session has opened it, about, and how much a gate allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.code_planes import UNPACKS, plane_width
from jisu.exporter.graph.graph_pieces import names_read

if TYPE_CHECKING:
    import onnx

# Bytes of opened weights where nobody sets a limit.
OPEN_BYTES = 4 << 30
# The same of weights that are read in their files, which nobody has to pack when a piece is opened again.
MAPPED_BYTES = 1 << 30
# What the kernels hold of a weight, of its bytes in the file: integers with the scales and the sums of short blocks.
PACKED = 1.25
# Codes in planes become bytes, weights of half precision float32 unless they stay in their file.
_CODE_BITS, _WIDENED = 8, 2.0
# Operators that read rows of their first input, and of what belongs to these, where the second one says.
_LOOKUPS = ("Gather", "GatherBlockQuantized")


def opened_bytes(model: onnx.ModelProto, *, keeps_half: bool = False) -> int:
    """Of all weights of a graph that lie in files, what they take when a session has opened it; about."""
    return sum(opened_sizes(model, keeps_half=keeps_half).values())


def opened_sizes(model: onnx.ModelProto, *, keeps_half: bool = False) -> dict[str, int]:
    """Bytes that each weight in a file takes when a session has opened it, by name; about.

    Of a table whose rows are looked up, only those are ever in memory.
    """
    import onnx

    half = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    codes = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.UINT4, onnx.TensorProto.INT4)
    bits, tables = _bits_of_planes(model.graph), _tables(model.graph)
    sizes = {}
    for weight in model.graph.initializer:
        stored = next((int(entry.value) for entry in weight.external_data if entry.key == "length"), None)
        if stored is None:
            continue
        share = 1.0
        if weight.name in tables:
            share = 0.0
        elif weight.data_type in half:
            share = 1.0 if keeps_half else _WIDENED
        elif weight.data_type in codes:
            share = PACKED * _CODE_BITS / bits.get(weight.name, _CODE_BITS)
        sizes[weight.name] = int(share * stored)
    return sizes


def _tables(graph: onnx.GraphProto) -> set[str]:
    """Names of weights that nothing but a lookup of rows reads."""
    rows = {name for node in graph.node if node.op_type in _LOOKUPS for name in (node.input[0], *node.input[2:])}
    others = {
        name
        for node in graph.node
        for name in names_read(node)
        if node.op_type not in _LOOKUPS or name == node.input[1]
    }
    return rows - others


def _bits_of_planes(graph: onnx.GraphProto) -> dict[str, int]:
    """Names of planes of codes -> how many bits the codes have that they make together."""
    makers = {name: node for node in graph.node for name in node.output}
    widths: dict[str, int] = {}
    for node in graph.node:
        bits = next((entry.value for entry in node.metadata_props if entry.key == UNPACKS), None)
        waiting = [] if bits is None else [node]
        while waiting:
            for name in names_read(waiting.pop()):
                if plane_width(name) is not None:
                    widths[name] = int(bits or _CODE_BITS)
                elif name in makers:
                    waiting.append(makers[name])
    return widths
