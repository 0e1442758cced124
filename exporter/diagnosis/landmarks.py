"""Values within a layer that are known from the source: the outputs of the modules whose weights a graph reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import is_weight
from jisu.exporter.graph.merge_weights import marked

if TYPE_CHECKING:
    import onnx_ir as ir

# What stands between a weight in the file and the operator that computes with it.
_CARRIERS = frozenset({"Cast", "DequantizeLinear", "Transpose", "Reshape", "Identity"})
_COMPUTE = frozenset(
    {"MatMul", "Gemm", "MatMulNBits", "RMSNormalization", "LayerNormalization", "SimplifiedLayerNormalization", "Conv"}
)
_WEIGHT = ".weight"


@dataclass(frozen=True, kw_only=True)
class Landmark:
    """``module`` is a path within the layer, ``value`` what the graph has of its output."""

    module: str
    value: ir.Value


def landmarks(graph: ir.Graph, prefix: str) -> Iterator[Landmark]:
    """The landmarks of the layer whose weights' names begin with ``prefix``, in the graph's order."""
    for node in graph:
        if node.op_type not in _COMPUTE:
            continue
        weights = [name for name in weights_read(node) if name.endswith(_WEIGHT)]
        if len(weights) != 1 or not weights[0].startswith(prefix):
            continue
        module = weights[0].removeprefix(prefix).removesuffix(_WEIGHT)
        yield Landmark(module=module, value=_with_bias(node.outputs[0]))


def weights_read(node: ir.Node) -> set[str]:
    """The constants that an operator computes with, by their names in the checkpoint where the graph tells."""
    return {name for value in node.inputs for name in _parameters(value)} | set(marked(node))


def _parameters(value: ir.Value | None) -> set[str]:
    while value is not None and (node := value.producer()) is not None and node.op_type in _CARRIERS:
        if names := marked(node):
            return set(names)
        value = node.inputs[0]
    return {value.name} if value is not None and is_weight(value) and value.name else set()


def _with_bias(value: ir.Value) -> ir.Value:
    """The value behind a sum with a constant and a rounding, where that is all that reads it."""
    while len(value.uses()) == 1 and not value.is_graph_output():
        (node,) = value.consumers()
        adds = node.op_type == "Add" and any(_parameters(item) for item in node.inputs if item is not value)
        if not adds and node.op_type != "Cast":
            break
        value = node.outputs[0]
    return value
