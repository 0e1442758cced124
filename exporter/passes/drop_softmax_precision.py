"""Takes ``softmax_precision`` off every `Attention`: TensorRT refuses the attribute.

Its kernels take the softmax of half-precision scores in float32 by themselves, which is what the attribute asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import nodes_of

if TYPE_CHECKING:
    import onnx_ir as ir

_ATTRIBUTE = "softmax_precision"
_FLOAT = 1  # onnx.TensorProto.FLOAT


def count_places(graph: ir.Graph) -> int:
    """Attentions that ask for a softmax in float32; any other type is left to the lint."""
    return sum(_asks_for_float(node) for node in nodes_of(graph, "Attention"))


def drop_softmax_precision(graph: ir.Graph) -> int:
    count = 0
    for node in nodes_of(graph, "Attention"):
        if _asks_for_float(node):
            del node.attributes[_ATTRIBUTE]
            count += 1
    return count


def _asks_for_float(node: ir.Node) -> bool:
    return node.attributes.get_int(_ATTRIBUTE, 0) == _FLOAT
