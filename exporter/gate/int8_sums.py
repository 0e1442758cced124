"""Whether int8 matmuls compute on any CPU what they compute on the one that verifies.

CPUs without VNNI add the products of two uint8 inputs and int8 weights in 16 bits, which saturate. That is emulated,
with the largest inputs there are: whatever overflows with any input overflows with these.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.result import Check

if TYPE_CHECKING:
    import onnx_ir as ir

NAME = "int8-sums"
_LARGEST_INPUT = 255


def check_int8_sums(graph_file: Path) -> list[Check]:
    """Compare 16-bit sums with exact ones for every matmul of 8-bit inputs and weights; none where there is none."""

    from jisu.calibration.w8a8.pair_sums import saturating_product
    from jisu.exporter.graph.read_graph import read_graph

    worst, where, count = 0.0, "", 0
    for node, weight in _int8_weights(read_graph(graph_file).graph):
        count += 1
        codes: npt.NDArray[Any] = np.ascontiguousarray(weight.numpy().T)
        inputs = np.full((1, codes.shape[1]), _LARGEST_INPUT, np.uint8)
        exact = _LARGEST_INPUT * codes.sum(axis=1, dtype=np.int64)
        terms = _LARGEST_INPUT * np.abs(codes.astype(np.int32)).sum(axis=1, dtype=np.int64)
        errors = np.abs(saturating_product(inputs, codes)[0] - exact) / np.maximum(terms, 1)
        if errors.max(initial=0.0) > worst:
            worst, where = float(errors.max()), f"output {int(errors.argmax())} of {_named(node)}"
    if count == 0:
        return []
    detail = (
        f"{where} is off by {worst:.2g} of its terms' magnitude on CPUs that add int8 products in 16 bits."
        if worst
        else f"{count} matmuls of 8-bit inputs and weights are exact on CPUs that add their products in 16 bits, too."
    )
    return [Check(name=NAME, passed=worst == 0, value=worst, limit=0, unit="relative", detail=detail)]


def _int8_weights(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.TensorProtocol]]:
    """(node that reads it, weight int8 [K, N]) of every matmul that a CPU runs on 8-bit inputs, once it is opened."""
    import onnx_ir as ir

    from jisu.exporter.passes.lower_integer_matmul import fixed_product

    for node in graph:
        reader, weight = node, node.inputs[1] if node.op_type in ("MatMulInteger", "MatMulIntegerToFloat") else None
        if node.op_type == "MatMul" and (product := fixed_product(node)) is not None:
            reader, weight = product[1], product[1].inputs[0]
        stored = None if weight is None else weight.const_value
        if stored is not None and stored.dtype == ir.DataType.INT8:
            yield reader, stored


def _named(node: ir.Node) -> str:
    from jisu.exporter.graph.merge_weights import marked

    return ", ".join(marked(node)) or node.name or node.op_type
