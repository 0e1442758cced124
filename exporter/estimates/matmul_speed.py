"""How fast this machine multiplies by a model's weights in one format or another; the numbers in them are made up.

A graph of nothing but products, in the model's own proportions and larger than the CPU's caches, is run with one
row (a decode step, bound by reading weights) and with many (a prefill, bound by arithmetic).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

PREFILL_ROWS = 64
# Weights of a probe: more than the caches hold, little enough to be made and packed in a fraction of a second.
_PROBE_BYTES = 48 << 20
_SECONDS = 0.08  # of runs for each number of rows, at least two
_DOMAIN = "com.microsoft"


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


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds for all products of one decode step, and for those of `PREFILL_ROWS` tokens at once."""

    decode: float
    prefill: float


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


def measure_products(products: Sequence[Product], *, threads: int | None = None) -> Speed:
    """Time all products, from a part of them where they are many.

    Args:
        threads: as many as will run the model; None leaves the choice to the runtime.
    """
    import numpy as np
    import onnx_ir as ir

    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()
    part, scale = _part(products)
    model = _probe(part)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    random = np.random.default_rng(0)
    names = {item.name: int(item.name.removeprefix("x")) for item in session.get_inputs()}

    def feeds(rows: int) -> dict[str, np.ndarray]:
        return {name: random.standard_normal((rows, width), dtype=np.float32) for name, width in names.items()}

    one, many = feeds(1), feeds(PREFILL_ROWS)
    return Speed(
        decode=scale * _fastest(lambda: session.run(None, one)),
        prefill=scale * _fastest(lambda: session.run(None, many)),
    )


def _part(products: Sequence[Product]) -> tuple[list[Product], float]:
    """At most about `_PROBE_BYTES` of them in their proportions, and how much work they stand for, as a factor."""
    whole = sum(product.bytes * product.count for product in products)
    share = min(1.0, _PROBE_BYTES / whole)
    part = []
    for product in products:
        count = max(1, round(product.count * share))
        rows = min(product.rows, -(-int(product.rows * product.count * share / count) // 32) * 32)
        part.append(Product(kind=product.kind, rows=rows, features=product.features, count=count))
    work = sum(product.rows * product.features * product.count for product in products)
    return part, work / sum(product.rows * product.features * product.count for product in part)


def _probe(products: Sequence[Product]) -> ir.Model:
    """A graph with an input ``x<K>`` [rows, K] for every K, and one output for each product."""
    import numpy as np
    import onnx_ir as ir

    inputs: dict[int, ir.Value] = {}
    rounded: dict[tuple[int, bool], list[ir.Value]] = {}
    nodes: list[ir.Node] = []
    weights: list[ir.Value] = []
    outputs: list[ir.Value] = []
    # No two weights alike: the runtime computes what is the same only once.
    noise = np.random.default_rng(0)

    def weight(array: np.ndarray) -> ir.Value:
        name = f"w{len(weights)}"
        weights.append(ir.Value(name=name, const_value=ir.tensor(array, name=name)))
        return weights[-1]

    def made(operator: str, *values: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        nodes.append(ir.node(operator, values, attributes, domain=domain))
        return nodes[-1].outputs[0]

    def multiply(product: Product) -> ir.Value:
        kind, rows, features = product.kind, product.rows, product.features
        if features not in inputs:
            shape = ir.Shape(["rows", features])
            inputs[features] = ir.Value(name=f"x{features}", type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
        x = inputs[features]
        if kind.operator == "MatMulNBits":
            blocks = -(-features // kind.block_size)
            packed = noise.integers(0, 256, (rows, blocks, kind.block_size * kind.bits // 8), dtype=np.uint8)
            extra = [weight(np.full((rows, -(-blocks * kind.bits // 8)), 0x77, np.uint8))] if kind.zero_points else []
            scales = weight(np.full((rows, blocks), 0.01, np.float32))
            numbers = {"K": features, "N": rows, "bits": kind.bits, "block_size": kind.block_size, "accuracy_level": 4}
            return made("MatMulNBits", x, weight(packed), scales, *extra, domain=_DOMAIN, **numbers)
        if kind.operator == "MatMulIntegerToFloat":
            key = (features, kind.row_scales)
            if key not in rounded:  # layers share what their input is rounded to, mostly in twos and threes
                zero = weight(np.array(128, np.uint8))
                scale = weight(np.array(0.02, np.float32))
                rounded[key] = [made("QuantizeLinear", x, scale, zero), scale, zero]
            codes_in, scale, zero = rounded[key]
            codes = weight(noise.integers(-127, 128, (features, rows), dtype=np.int8))
            scales = weight(np.full(rows, 0.01, np.float32))
            return made("MatMulIntegerToFloat", codes_in, codes, scale, scales, zero, domain=_DOMAIN)
        # Mantissas at random below a common exponent.
        bits = noise.integers(0, 1 << 23, (features, rows), dtype=np.uint32) | np.uint32(0x3C000000)
        return made("MatMul", x, weight(bits.view(np.float32)))

    for product in products:
        for _ in range(product.count):
            output = multiply(product)
            output.name = f"y{len(outputs)}"
            output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["rows", product.rows])
            outputs.append(output)
    graph = ir.Graph(
        list(inputs.values()),
        outputs,
        nodes=nodes,
        initializers=weights,
        opset_imports={"": 24, _DOMAIN: 1},
        name="products",
    )
    return ir.Model(graph, ir_version=11)


def _fastest(run: Callable[[], object]) -> float:
    run()
    times: list[float] = []
    while len(times) < 2 or sum(times) < _SECONDS:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def in_other_kinds(products: Sequence[Product], kinds: Mapping[str, Kind], *, table: Kind) -> dict[str, list[Product]]:
    """The same products as each of the kinds would compute them.

    Args:
        table: kind of the output projection, the largest weight, unless the others are float.
    """
    largest = max(products, key=lambda product: product.rows)
    formats = {}
    for name, kind in kinds.items():
        formats[name] = [
            Product(
                kind=_fitting(table if product is largest and kind != FLOAT else kind, product.features),
                rows=product.rows,
                features=product.features,
                count=product.count,
            )
            for product in products
        ]
    return formats


def _fitting(kind: Kind, features: int) -> Kind:
    """The kind with the largest block up to its own that divides the features."""
    from dataclasses import replace

    from jisu.calibration.weights.formats import BLOCK_SIZES

    if not kind.block_size:
        return kind
    fitting = [size for size in BLOCK_SIZES if size <= kind.block_size and features % size == 0]
    return replace(kind, block_size=fitting[-1]) if fitting else FLOAT


def _behind(value: ir.Value | None) -> ir.Value | None:
    """The constant behind a `Cast` or a `Transpose`, or the value itself."""
    producer = None if value is None else value.producer()
    return producer.inputs[0] if producer is not None and producer.op_type in ("Cast", "Transpose") else value


def _transposed(node: ir.Node) -> bool:
    producer = None if node.inputs[1] is None else node.inputs[1].producer()
    turned = producer is not None and producer.op_type == "Transpose"
    return turned or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1)
