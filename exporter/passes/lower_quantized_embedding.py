"""Gathered and dequantized rows of an embedding -> ONNX Runtime's `GatherBlockQuantized`.

Where the output projection reads the same weight, its packed weight and this operator's data are the same bytes in
another shape, which `exporter.graph.weights_file` stores once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import emit, integer_bits, is_weight, nodes_of, producer, replace, sizes_of
from jisu.exporter.graph.merge_weights import mark, marked
from jisu.exporter.passes.lower_gqa import DOMAIN
from jisu.exporter.passes.lower_matmul_nbits import stored

if TYPE_CHECKING:
    import onnx_ir as ir


def count_places(graph: ir.Graph) -> int:
    return sum(1 for node in nodes_of(graph, "DequantizeLinear") if _gathers(node) is not None)


def lower_quantized_embedding(graph: ir.Graph) -> int:
    """Replace the gathers of codes, scales and zero points, and the dequantization of what they give."""
    count = 0
    for node in nodes_of(graph, "DequantizeLinear"):
        gathers = _gathers(node)
        if gathers is None:
            continue
        codes, scales, *zeros = (gather.inputs[0] for gather in gathers)
        assert codes is not None and scales is not None and codes.const_value is not None
        bits, block = integer_bits(codes), node.attributes.get_int("block_size")
        rows, width = sizes_of(codes.const_value)
        blocks = -(-width // block)
        inputs = [
            stored(graph, codes, 1, bits=bits, shape=(rows, width * bits // 8), kind="data"),
            gathers[0].inputs[1],
            stored(graph, scales, 1, bits=None, shape=(rows, blocks)),
        ]
        if zeros and zeros[0] is not None:
            inputs.append(stored(graph, zeros[0], 1, bits=bits, shape=(rows, -(-blocks * bits // 8))))
        attributes = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
        output = emit(node, "GatherBlockQuantized", inputs, attributes, domain=DOMAIN, like=node.outputs[0])
        mark(output, marked(node))
        replace(node.outputs[0], output)
        graph.remove((node, *gathers), safe=True)
        graph.opset_imports.setdefault(DOMAIN, 1)
        count += 1
    return count


def _gathers(node: ir.Node) -> list[ir.Node] | None:
    """The gathers of rows that a dequantization reads, when they take the same ids from constants."""
    if not node.attributes.get_int("block_size", 0):
        return None
    gathers = [gather for value in node.inputs if (gather := producer(value, "Gather")) is not None]
    if len(gathers) != len(node.inputs) or any(gather.attributes.get_int("axis", 0) != 0 for gather in gathers):
        return None
    if len({id(gather.inputs[1]) for gather in gathers}) != 1 or not all(is_weight(item.inputs[0]) for item in gathers):
        return None
    return gathers
