"""Cuts a graph into pieces that run one after another, so that the weights of one at a time are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Of weights that a piece reads; a node that reads more begins a piece of its own.
PIECE_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Consecutive nodes of a graph.

    Attributes:
        nodes: in their order.
        reads: names of what comes from outside of it: inputs, weights, and values of the pieces before.
        writes: names of all values that it computes.
        carries: those of them that later pieces read.
        ends: names of values that no later piece reads any more.
    """

    nodes: Sequence[onnx.NodeProto]
    reads: frozenset[str]
    writes: frozenset[str]
    carries: tuple[str, ...]
    ends: frozenset[str]


def cut_graph(
    graph: onnx.GraphProto,
    sizes: Mapping[str, int],
    *,
    most: int | None = PIECE_BYTES,
    constants: Sequence[onnx.NodeProto] = (),
) -> list[Piece]:
    """The graph's nodes in pieces.

    Args:
        graph: its nodes in topological order.
        sizes: bytes of weights, by name.
        most: bytes of these that a piece reads, where it can be cut so; None for one piece.
        constants: nodes of the graph that compute from weights alone, see `constant_nodes`. They stand in every piece
            that reads what they give, instead of being computed once and carried from piece to piece.
    """
    makers = {name: node for node in constants for name in node.output}
    places = {_result(node): place for place, node in enumerate(graph.node)}
    groups: list[list[onnx.NodeProto]] = [[]]
    weights: set[str] = set()
    for node in graph.node:
        if any(name in makers for name in node.output):
            continue
        needed = _makers_of(node, makers)
        more = {name for one in (node, *needed) for name in names_read(one) if name in sizes}
        if most is not None and groups[-1] and more - weights and sum(sizes[name] for name in weights | more) > most:
            groups.append([])
            weights = set()
        weights |= more
        present = {_result(one) for one in groups[-1]}
        groups[-1] += [one for one in needed if _result(one) not in present]
        groups[-1].append(node)
    for group in groups:
        group.sort(key=lambda node: places[_result(node)])
    reads = [frozenset(name for node in group for name in names_read(node)) for group in groups]
    writes = [frozenset(name for node in group for name in node.output if name) for group in groups]
    later: set[str] = set()
    pieces: list[Piece] = []
    for group, read, written in reversed(list(zip(groups, reads, writes, strict=True))):
        outside = read - written
        carries = tuple(sorted((written & later) - makers.keys()))
        pieces.append(
            Piece(nodes=group, reads=outside, writes=written, carries=carries, ends=frozenset(outside - later))
        )
        later |= read
    return pieces[::-1]


def constant_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that compute from weights alone, in their order; what a caller may give instead of a weight is none."""
    known = {one.name for one in graph.initializer} - {one.name for one in graph.input}
    outputs = {one.name for one in graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if all(name in known for name in names_read(node)) and not outputs & set(node.output):
            known.update(node.output)
            nodes.append(node)
    return nodes


def _makers_of(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> list[onnx.NodeProto]:
    """All that compute what a node reads, or what these read; each once."""
    nodes: dict[str, onnx.NodeProto] = {}
    waiting = [node]
    while waiting:
        for name in names_read(waiting.pop()):
            if (maker := makers.get(name)) is not None and _result(maker) not in nodes:
                nodes[_result(maker)] = maker
                waiting.append(maker)
    return list(nodes.values())


def _result(node: onnx.NodeProto) -> str:
    """The name of the first value that a node gives, which no other one gives."""
    name: str = next(name for name in node.output if name)
    return name


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, those that its subgraphs take from outside included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            own = {value.name for value in (*inner.input, *inner.initializer)}
            own |= {name for one in inner.node for name in one.output}
            yield from (name for one in inner.node for name in names_read(one) if name not in own)
            yield from (value.name for value in inner.output if value.name not in own)


def piece_model(
    model: onnx.ModelProto, piece: Piece, kinds: Mapping[str, int], outputs: Sequence[str]
) -> onnx.ModelProto:
    """A model of a piece alone.

    Args:
        model: that the piece is cut from.
        kinds: types of the values of the pieces before that it reads, as ``onnx.TensorProto.DataType`` has them; their
            sizes may differ in every call.
        outputs: names of what it gives.
    """
    import onnx

    made = onnx.ModelProto(ir_version=model.ir_version)
    made.opset_import.extend(model.opset_import)
    made.functions.extend(model.functions)
    made.graph.name = model.graph.name
    made.graph.node.extend(piece.nodes)
    made.graph.initializer.extend(one for one in model.graph.initializer if one.name in piece.reads)
    made.graph.input.extend(one for one in model.graph.input if one.name in piece.reads)
    stated = {one.name for one in (*made.graph.input, *made.graph.initializer)}
    for name in sorted(piece.reads - stated):
        made.graph.input.append(onnx.helper.make_tensor_value_info(name, kinds[name], None))
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return made
