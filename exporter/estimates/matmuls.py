"""Which products with constant weights a graph has, in which format and how often: what a decode step reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to multiply: the operator of ONNX Runtime, and for blocks their bits and size.

    ``row_scales``: every row of the input is rounded to 8 bits by a scale of its own (`MatMulIntegerToFloat`).
    """

    operator: str
    bits: int = 32
    block_size: int = 0
    zero_points: bool = False
    row_scales: bool = False


@dataclass(frozen=True, kw_only=True)
class Product:
    """A product with a weight of [N, K]: how it is computed, and how often it occurs."""

    kind: Kind
    rows: int
    features: int
    count: int

    @property
    def bytes(self) -> float:
        overhead = 4 / self.kind.block_size if self.kind.block_size else 0
        return self.rows * self.features * (self.kind.bits / 8 + overhead)


FLOAT = Kind(operator="MatMul")


def products_of(graph_file: Path) -> list[Product]:
    """The products with constant weights in a graph for ONNX Runtime on the CPU, alike ones counted together."""

    from jisu.exporter.graph.match import dims, is_weight
    from jisu.exporter.graph.read_graph import read_graph

    graph = read_graph(graph_file).graph
    counts: dict[tuple[Kind, int, int], int] = {}
    per_row = any(node.op_type == "ReduceMax" for node in graph)
    for node in graph:
        if node.op_type == "MatMulNBits":
            numbers = {name: node.attributes[name].as_int() for name in ("bits", "block_size", "N", "K")}
            zeros = len(node.inputs) > 3 and node.inputs[3] is not None
            kind = Kind(
                operator=node.op_type, bits=numbers["bits"], block_size=numbers["block_size"], zero_points=zeros
            )
            rows, features = numbers["N"], numbers["K"]
        elif node.op_type in ("MatMul", "MatMulIntegerToFloat", "Gemm"):
            weight = _behind(node.inputs[1])
            sizes = dims(weight) if weight is not None and is_weight(weight) else None
            if sizes is None or len(sizes) != 2:
                continue
            features, rows = (int(size) for size in sizes)
            whole = node.op_type == "MatMulIntegerToFloat"
            kind = Kind(operator=node.op_type, bits=8, row_scales=per_row) if whole else FLOAT
            if _transposed(node):
                features, rows = rows, features
        else:
            continue
        counts[kind, rows, features] = counts.get((kind, rows, features), 0) + 1
    return [
        Product(kind=kind, rows=rows, features=features, count=count)
        for (kind, rows, features), count in counts.items()
    ]


def _behind(value: ir.Value | None) -> ir.Value | None:
    """The constant behind a `Cast` or a `Transpose`, or the value itself."""
    producer = None if value is None else value.producer()
    return producer.inputs[0] if producer is not None and producer.op_type in ("Cast", "Transpose") else value


def _transposed(node: ir.Node) -> bool:
    producer = None if node.inputs[1] is None else node.inputs[1].producer()
    turned = producer is not None and producer.op_type == "Transpose"
    return turned or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1)
