"""Reshapes to a computed shape -> reshapes to a constant one, with 0 for "as before" and one -1 for "the rest"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import constant, dims, new_constant, nodes_of, producer

if TYPE_CHECKING:
    import onnx_ir as ir


def static_reshapes(graph: ir.Graph) -> int:
    """Replace shapes concatenated from other tensors' sizes where the letters of the dims say what they are."""
    import numpy as np

    count = 0
    for node in nodes_of(graph, "Reshape"):
        source, shape = node.inputs
        if source is None or shape is None or constant(shape) is not None:
            continue
        before, pieces = dims(source), _pieces(shape)
        if before is None or pieces is None:
            continue
        target = [
            0 if isinstance(piece, str) and place < len(before) and before[place] == piece else piece
            for place, piece in enumerate(pieces)
        ]
        unknown = [piece for piece in target if isinstance(piece, str)]
        if len(unknown) > 1 or (unknown and -1 in target):
            continue
        sizes = [-1 if isinstance(piece, str) else piece for piece in target]
        name = "shape_" + "_".join(str(size) for size in sizes)
        node.replace_input_with(1, new_constant(graph, name, np.array(sizes, dtype=np.int64)))
        node.attributes.pop("allowzero", None)
        count += 1
    return count


def _pieces(shape: ir.Value) -> list[int | str] | None:
    """The sizes in a shape tensor: numbers, or the letter of the dim that they were read from."""
    known = constant(shape)
    if known is not None:
        return [int(size) for size in known.reshape(-1)]
    concat = producer(shape, "Concat")
    if concat is not None:
        parts = [_pieces(value) if value is not None else None for value in concat.inputs]
        return None if any(part is None for part in parts) else [size for part in parts for size in part or ()]
    node = shape.producer()
    if node is None:
        return None
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Cast", "Identity") and node.inputs[0] is not None:
        inner = _pieces(node.inputs[0])
        return inner if inner is not None and len(inner) == 1 else None
    if node.op_type == "Shape" and node.inputs[0] is not None:
        whole = dims(node.inputs[0])
        if whole is None:
            return None
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(whole))
        return list(whole[start:end])
    return None
