"""Cuts a graph at the seams between its layers, so that each piece can be given what the source gives there.

A piece that is fed the truth owes nothing to the pieces before it: its error is its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jisu.exporter.graph.localize import LAYERS_KEY
from jisu.exporter.graph.match import dims, emit

if TYPE_CHECKING:
    import onnx_ir as ir

_SUM_AND_NORM = "SkipSimplifiedLayerNormalization"
_SUM = 3  # place of the sum among that operator's outputs


@dataclass(frozen=True, kw_only=True)
class Seam:
    """A value between two pieces: the name under which the piece before gives it, and the one that follows reads it.

    ``place`` is 0 for what enters the first layer, and 1 more than the layer for what leaves one. Both are float32
    [1, T, C], whatever the graph computes in.
    """

    place: int
    output: str
    fed: str


def cut_graph(model: ir.Model, *, layers: int, path: str | None) -> tuple[Seam, ...]:
    """Cut in place wherever the graph tells where a layer ends.

    Args:
        layers: how many the source has.
        path: of its list of layers, by which the weights of the first one are known.
    """
    values = _layer_values(model, layers)
    if layers and path is not None:
        values[0] = _entering(model.graph, f"{path}.0.")
    return tuple(_cut(model.graph, value, place) for place, value in sorted(values.items()) if value is not None)


def _layer_values(model: ir.Model, layers: int) -> dict[int, ir.Value | None]:
    listed = model.graph.metadata_props.get(LAYERS_KEY) or model.metadata_props.get(LAYERS_KEY) or "[]"
    names = json.loads(listed)
    if len(names) != layers:
        return {}  # which name belongs to which layer cannot be told
    by_name = {value.name: value for node in model.graph for value in node.outputs}
    return {place: by_name.get(name) for place, name in enumerate(names, start=1) if name}


def _entering(graph: ir.Graph, prefix: str) -> ir.Value | None:
    """What the first operator with a weight of the first layer reads, [B, T, C]."""
    for node in graph:
        if not any((name := _parameter(value)) and name.startswith(prefix) for value in node.inputs):
            continue
        if node.op_type == "Cast":  # of the weight itself
            continue
        value = node.outputs[_SUM] if node.op_type == _SUM_AND_NORM else node.inputs[0]
        while value is not None and (before := value.producer()) is not None and _widens(before):
            value = before.inputs[0]
        rank = None if value is None else dims(value)
        known = value is not None and value.producer() is not None and rank is not None and len(rank) == 3
        return value if known else None
    return None


def _parameter(value: ir.Value | None) -> str | None:
    """The name of the constant that a value is, maybe converted."""
    while value is not None and (node := value.producer()) is not None and node.op_type == "Cast":
        value = node.inputs[0]
    return None if value is None or value.const_value is None else value.name


def _widens(node: ir.Node) -> bool:
    import onnx_ir as ir

    source, result = node.inputs[0], node.outputs[0]
    halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return node.op_type == "Cast" and source is not None and source.dtype in halves and result.dtype not in halves


def _cut(graph: ir.Graph, value: ir.Value, place: int) -> Seam:
    import onnx_ir as ir

    node = value.producer()
    assert node is not None
    readers = [(use.node, use.idx) for use in value.uses()]
    seam = Seam(place=place, output=f"seam.{place}.given", fed=f"seam.{place}.fed")
    wide = ir.TensorType(ir.DataType.FLOAT)
    fed = ir.Value(name=seam.fed, type=wide, shape=value.shape)
    graph.inputs.append(fed)
    # Conversions that change nothing where the graph computes in float32.
    cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value})
    graph.insert_after(node, cast)
    cast.outputs[0].name, cast.outputs[0].type = seam.output, wide
    graph.outputs.append(cast.outputs[0])
    kind = value.dtype or ir.DataType.FLOAT
    replacement = emit(next(iter(graph)), "Cast", [fed], {"to": kind.value})
    replacement.name, replacement.type, replacement.shape = f"seam.{place}", ir.TensorType(kind), value.shape
    for reader, index in readers:
        reader.replace_input_with(index, replacement)
    if node.op_type == _SUM_AND_NORM and node.outputs[_SUM] is value:
        _norm_apart(graph, node, replacement)
    return seam


def _norm_apart(graph: ir.Graph, node: ir.Node, fed: ir.Value) -> None:
    """The norm of a fused sum belongs to the next piece, and is taken of what that one is fed."""
    import onnx_ir as ir

    old = node.outputs[0]
    readers = [(use.node, use.idx) for use in old.uses()]
    attributes = {"epsilon": node.attributes.get_float("epsilon", 1e-5), "axis": -1}
    norm = ir.node("RMSNormalization", [fed, node.inputs[2]], attributes)
    graph.insert_after(node, norm)
    norm.outputs[0].name, norm.outputs[0].type, norm.outputs[0].shape = f"{fed.name}.norm", old.type, old.shape
    for reader, index in readers:
        reader.replace_input_with(index, norm.outputs[0])
