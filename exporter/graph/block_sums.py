"""Appends to the input of a matmul the sum of each of its blocks, for weights that keep a number per block.

See `calibration.weights.formats.BlockQuantized.sums`. One matmul with a constant of ones and zeros makes all sums, and
the zeros that fill up the last block; inputs that several matmuls read get them once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import emit, new_constant

if TYPE_CHECKING:
    import onnx_ir as ir


def append_block_sums(node: ir.Node, *, features: int, block_size: int, sums: int) -> None:
    """Let a matmul read [..., features + sums] instead of [..., features].

    Args:
        node: its first input is what is widened.
        features: K, of the input as it is.
        block_size: features that are summed up.
        sums: columns to append; those beyond the blocks are zeros.
    """
    import numpy as np
    import onnx_ir as ir

    values, graph = node.inputs[0], node.graph
    assert values is not None and graph is not None
    ones = np.zeros((features, sums), np.float32)
    ones[np.arange(features), np.arange(features) // block_size] = 1
    constant = new_constant(graph, f"block_sums.{features}.{block_size}.{sums}", ones)
    for reader in values.consumers():
        if reader.op_type == "MatMul" and reader.inputs[1] is constant:
            (concat,) = reader.outputs[0].consumers()
            node.replace_input_with(0, concat.outputs[0])
            return
    before = None if values.shape is None else list(values.shape)[:-1]
    added = emit(node, "MatMul", [values, constant], like=values)
    widened = emit(node, "Concat", [values, added], {"axis": -1}, like=values)
    added.shape = None if before is None else ir.Shape([*before, sums])
    widened.shape = None if before is None else ir.Shape([*before, features + sums])
    node.replace_input_with(0, widened)
