"""Codes of 8 bits that end in zeros, stored in as many bits as they have, and what puts them together again.

`exporter.contract.code_planes` says how they lie in the file. Standard operators on constants shift them back; a
runtime folds them when it opens the graph, and ours does it itself (`runtimes.backends.ort.unpacked_codes`). Rows are
the first axis of each plane, and no operator says how many there are, so that some rows can be read alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.contract.code_planes import PLANE, PLANES, UNPACKS, pack_plane, plane_width
from jisu.exporter.graph.match import add_initializer, emit, is_weight, new_constant, sizes_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

_BYTE = 8
_OPERATORS = frozenset({"BitShift", "BitwiseOr", "Reshape"})


def store_planes(graph: ir.Graph, before: ir.Node, codes: ir.Value, *, bits: int, name: str) -> ir.Value:
    """Store the planes of a constant and return what they make, uint8 [rows, features].

    Args:
        before: a node; what puts the planes together stands before it.
        codes: a constant, uint8 [rows, ...], of ``bits`` bits above zeros.
        name: of the constants.
    """
    import numpy as np
    import onnx_ir as ir

    assert codes.const_value is not None
    rows, *others = sizes_of(codes.const_value)
    features = int(np.prod(others))
    joined, above = None, 0
    for width in PLANES[bits]:
        tensor = ir.LazyTensor(
            partial(_plane, codes.const_value, _BYTE - above - width, width, (rows, 1, features * width // _BYTE)),
            dtype=ir.DataType.UINT8,
            shape=ir.Shape((rows, 1, features * width // _BYTE)),
            name=f"{name}{PLANE}{width}",
        )
        plane = _put_back(graph, before, add_initializer(graph, tensor), width=width, above=above)
        joined = plane if joined is None else emit(before, "BitwiseOr", [joined, plane], like=plane)
        above += width
    assert joined is not None
    joined.shape = ir.Shape((rows, features))
    node = joined.producer()
    assert node is not None
    node.metadata_props[UNPACKS] = str(bits)
    return joined


def are_planes(value: ir.Value | None) -> bool:
    """Whether a value is put together from planes."""
    node = None if value is None else value.producer()
    return node is not None and node.op_type in _OPERATORS and bool(_leaves(node))


def rows_of_planes(
    value: ir.Value, slice_rows: Callable[[ir.TensorProtocol, str], ir.TensorProtocol]
) -> tuple[list[ir.Node], list[ir.Value], ir.Value]:
    """Some rows of what planes make: (the operators in order, their constants, the result), all of them new.

    Args:
        slice_rows: gives those rows of a plane, by its tensor and name.
    """
    import onnx_ir as ir

    nodes: list[ir.Node] = []
    constants: dict[str, ir.Value] = {}

    def copied(item: ir.Value) -> ir.Value:
        node = item.producer()
        if node is None:
            assert item.const_value is not None and item.name is not None
            if item.name not in constants:
                tensor = item.const_value
                if plane_width(item.name) is not None:
                    tensor = slice_rows(tensor, item.name)
                constants[item.name] = ir.Value(
                    name=tensor.name or item.name,
                    type=ir.TensorType(tensor.dtype),
                    shape=ir.Shape(sizes_of(tensor)),
                    const_value=tensor,
                )
            return constants[item.name]
        inputs = [None if part is None else copied(part) for part in node.inputs]
        again = ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), num_outputs=1)
        again.outputs[0].type = item.type
        again.metadata_props.update(node.metadata_props)
        nodes.append(again)
        return again.outputs[0]

    result = copied(value)
    return nodes, list(constants.values()), result


def _leaves(node: ir.Node) -> list[ir.Value]:
    """The planes that a node's result is made of; none where something else is in it."""
    planes: list[ir.Value] = []
    for value in node.inputs:
        if value is None:
            continue
        made = value.producer()
        if made is not None and made.op_type in _OPERATORS:
            below = _leaves(made)
            if not below:
                return []
            planes += below
        elif made is not None or not is_weight(value):
            return []
        elif plane_width(value.name or "") is not None:
            planes.append(value)
    return planes


def _plane(tensor: ir.TensorProtocol, lowest: int, width: int, shape: tuple[int, ...]) -> ir.TensorProtocol:
    import onnx_ir as ir

    codes: npt.NDArray[np.uint8] = tensor.numpy().reshape(shape[0], -1)
    return ir.tensor(pack_plane(codes, lowest=lowest, width=width).reshape(shape))


def _put_back(graph: ir.Graph, before: ir.Node, plane: ir.Value, *, width: int, above: int) -> ir.Value:
    """The bits of a plane where they belong in a code, below as many others, uint8 [rows, features].

    Shifted down to the lowest bits of each column, then up to the highest, which drops its neighbours, then down below
    the bits of the other planes.
    """
    import numpy as np
    import onnx_ir as ir

    def shifted(value: ir.Value, by: ir.Value, direction: str) -> ir.Value:
        result = emit(before, "BitShift", [value, by], {"direction": direction})
        result.type = ir.TensorType(ir.DataType.UINT8)
        return result

    def by(amount: int) -> ir.Value:
        return new_constant(graph, f"shift_by_{amount}", np.array(amount, np.uint8))

    starts = np.arange(0, _BYTE, width, dtype=np.uint8)[:, None]
    value = shifted(plane, new_constant(graph, f"shifts_of_{width}", starts), "RIGHT")
    value = shifted(value, by(_BYTE - width), "LEFT")
    if above:
        value = shifted(value, by(above), "RIGHT")
    flat = emit(before, "Reshape", [value, new_constant(graph, "whole_rows", np.array([0, -1], np.int64))])
    flat.type = value.type
    return flat
