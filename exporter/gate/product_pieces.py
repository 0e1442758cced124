"""Cuts matmuls with large quantized weights into pieces of rows that are still read from the same place of the file.

Where ONNX Runtime has no kernel for a format and float activations, `MatMulNBits` makes a float copy of its weight in
every call (1.30): of an output projection that copy is the largest thing in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.code_planes import are_planes, rows_of_planes
from jisu.exporter.graph.match import add_initializer, sizes_of
from jisu.exporter.graph.merge_weights import drop_unread

if TYPE_CHECKING:
    import onnx_ir as ir

# Of the float copy of a piece. Rows come in whole groups, since those of kernels are as wide.
PIECE_BYTES = 64 << 20
_GROUP = 64
# Inputs of MatMulNBits that have a row for each output feature: codes, scales, zero points, and the bias behind the
# order of the columns.
BY_ROW = (1, 2, 3, 5)


def cut_products(graph: ir.Graph) -> int:
    """Replace each large `MatMulNBits` by several and the concatenation of what they give; returns how many."""
    import onnx_ir as ir

    count = 0
    made: dict[tuple[int, int], ir.Value] = {}  # several matmuls may read one constant
    for node in list(graph):
        bounds = _bounds(node)
        if len(bounds) < 2:
            continue
        output = node.outputs[0]
        pieces = []
        for number, (start, stop) in enumerate(bounds):
            inputs = [
                _piece_once(graph, value, start, stop, rows=bounds[-1][1], made=made)
                if index in BY_ROW and value
                else value
                for index, value in enumerate(node.inputs)
            ]
            attributes = [
                *(one for one in node.attributes.values() if one.name != "N"),
                ir.AttrInt64("N", stop - start),
            ]
            piece = ir.Node(node.domain, node.op_type, inputs, attributes, num_outputs=1)
            piece.outputs[0].name = f"{output.name}.rows.{number}"
            pieces.append(piece)
        joined = ir.node("Concat", [piece.outputs[0] for piece in pieces], {"axis": -1})
        graph.insert_before(node, [*pieces, joined])
        joined.outputs[0].type, joined.outputs[0].shape = output.type, output.shape
        output.name, joined.outputs[0].name = f"{output.name}.whole", output.name
        ir.convenience.replace_all_uses_with(output, joined.outputs[0], replace_graph_outputs=True)
        graph.remove(node, safe=True)
        count += 1
    if count:
        _drop_unused(graph)
    drop_unread(graph, list(graph.initializers.values()))
    return count


def _drop_unused(graph: ir.Graph) -> None:
    """Remove what put codes together that nobody reads any more."""
    for node in reversed(list(graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)


def row_bounds(rows: int, features: int) -> list[tuple[int, int]]:
    """Pieces of a weight [rows, features] whose float32 copies take about `PIECE_BYTES`."""
    step = max(1, PIECE_BYTES // (4 * features * _GROUP)) * _GROUP
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def rows_of(tensor: ir.TensorProtocol, start: int, stop: int, *, rows: int, name: str) -> ir.TensorProtocol:
    """Some rows of a constant with one row after another, its first axis first; a stored one stays in its file.

    Args:
        rows: how many there are in all; where rows are no axis of their own, the first one counts them many times.
    """
    import onnx_ir as ir

    sizes = sizes_of(tensor)
    first = sizes[0] // rows  # entries of the first axis for a row
    shape = ir.Shape([(stop - start) * first, *sizes[1:]])
    if not isinstance(tensor, ir.ExternalTensor):
        return ir.tensor(tensor.numpy()[start * first : stop * first], dtype=tensor.dtype, name=name)
    size = tensor.nbytes // rows
    return ir.ExternalTensor(
        tensor.location,
        (tensor.offset or 0) + start * size,
        (stop - start) * size,
        tensor.dtype,
        shape=shape,
        name=name,
        base_dir=tensor.base_dir,
    )


def _bounds(node: ir.Node) -> list[tuple[int, int]]:
    if node.op_type != "MatMulNBits":
        return []
    rows, features = node.attributes["N"].as_int(), node.attributes["K"].as_int()
    by_row = [node.inputs[index] for index in BY_ROW if index < len(node.inputs) and node.inputs[index]]
    stored = [_constant(value) for value in by_row if not are_planes(value)]
    known = all(one is not None and sizes_of(one)[0] % rows == 0 for one in stored)
    return row_bounds(rows, features) if known else []


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """What is stored of a constant, or of one that is only cast."""
    cast = None if value is None else value.producer()
    if cast is not None and cast.op_type == "Cast":
        value = cast.inputs[0]
    return None if value is None else value.const_value


def _piece_once(
    graph: ir.Graph, value: ir.Value, start: int, stop: int, *, rows: int, made: dict[tuple[int, int], ir.Value]
) -> ir.Value:
    key = id(value), start
    if key not in made:
        made[key] = _piece(graph, value, start, stop, rows=rows)
    return made[key]


def _piece(graph: ir.Graph, value: ir.Value, start: int, stop: int, *, rows: int) -> ir.Value:
    """The value of some rows of a constant, cast as it is."""
    import onnx_ir as ir

    if are_planes(value):
        return _piece_of_planes(graph, value, start, stop, rows=rows)
    cast, stored = value.producer(), _constant(value)
    assert stored is not None
    source = value if cast is None else cast.inputs[0]
    assert source is not None
    name = f"{source.name}.{start}"
    if name not in graph.initializers:
        add_initializer(graph, rows_of(stored, start, stop, rows=rows, name=name))
    piece = graph.initializers[name]
    if cast is None:
        return piece
    again = ir.node("Cast", [piece], {"to": cast.attributes["to"].as_int()})
    again.outputs[0].name = f"{name}.cast"
    graph.insert_before(cast, again)
    again.outputs[0].type = value.type
    return again.outputs[0]


def _piece_of_planes(graph: ir.Graph, value: ir.Value, start: int, stop: int, *, rows: int) -> ir.Value:
    """Some rows of codes that are put together from planes, by operators of their own."""
    nodes, constants, codes = rows_of_planes(
        value, lambda plane, name: rows_of(plane, start, stop, rows=rows, name=f"{name}.{start}")
    )
    for number, node in enumerate(nodes):
        node.outputs[0].name = f"{value.name}.{start}.{number}"
    for constant in constants:
        assert constant.name is not None
        if constant.name in graph.initializers:
            constant.replace_all_uses_with(graph.initializers[constant.name])
        else:
            graph.initializers[constant.name] = constant
    first = value.producer()
    assert first is not None
    graph.insert_before(first, nodes)
    return codes
