"""Makes the optional input ``logits_positions`` one that is always given.

An input with a default is, for ONNX, a constant that a caller may replace. TensorRT reads it as the constant, without a
word: the last token of every row, padding or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.signature import LOGITS_POSITIONS

if TYPE_CHECKING:
    import onnx_ir as ir


def count_places(graph: ir.Graph) -> int:
    """The input, where the graph has it with a default."""
    return int(LOGITS_POSITIONS in graph.initializers)


def require_logits_positions(graph: ir.Graph) -> int:
    """Drop the default; int64 [B, K]."""
    import onnx_ir as ir

    value = graph.initializers.pop(LOGITS_POSITIONS, None)
    if value is None:
        return 0
    value.const_value = None
    value.shape = ir.Shape(["B", "K"])
    return 1
