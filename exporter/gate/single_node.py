"""One node of a written graph, run alone by ONNX Runtime on the constants that the file holds for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.product_pieces import BY_ROW, rows_of
from jisu.exporter.graph.code_planes import are_planes, rows_of_planes

if TYPE_CHECKING:
    import onnx_ir as ir

Floats = npt.NDArray[np.float32]


def run_node(node: ir.Node, fed: dict[int, npt.NDArray[Any]], *, attributes: dict[str, int]) -> Floats:
    """What a node gives, see `NodeRunner`."""
    return NodeRunner(node, fed, attributes=attributes)(fed)


class NodeRunner:
    """One node of the file as a model of its own: the inputs in ``fed`` are fed, all others are its constants.

    Args:
        rows: of its constants, where they have a row for each row of a weight; None for all of them.
    """

    def __init__(
        self,
        node: ir.Node,
        fed: Mapping[int, npt.NDArray[Any]],
        *,
        attributes: dict[str, int],
        rows: tuple[int, int] | None = None,
    ) -> None:
        import onnx
        import onnx_ir as ir

        from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
        from jisu.exporter.graph.match import sizes_of

        onnxruntime = import_onnxruntime()

        inputs: list[ir.Value | None] = []
        initializers: list[ir.Value] = []
        before: list[ir.Node] = []
        for index, value in enumerate(node.inputs):
            if value is None:
                inputs.append(None)
            elif index in fed:
                kind = ir.DataType.from_numpy(fed[index].dtype)
                inputs.append(ir.Value(name=f"input_{index}", type=ir.TensorType(kind)))
            elif are_planes(value):
                made, planes, codes = _codes_of_planes(value, rows=rows, count=_count_rows(node))
                before += made
                initializers += planes
                inputs.append(codes)
            else:
                tensor = stored_constant(value)
                if rows is not None and (node.op_type != "MatMulNBits" or index in BY_ROW):
                    tensor = rows_of(tensor, *rows, rows=_count_rows(node), name=f"constant_{index}")
                constant = ir.Value(
                    name=f"constant_{index}",
                    type=ir.TensorType(tensor.dtype),
                    shape=ir.Shape(sizes_of(tensor)),
                    const_value=tensor,
                )
                inputs.append(constant)
                initializers.append(constant)
        kept = {name: item for name, item in node.attributes.items() if name not in attributes}
        changed = [ir.AttrInt64(name, value) for name, value in attributes.items()]
        alone = ir.Node(node.domain, node.op_type, inputs, [*kept.values(), *changed], num_outputs=1)
        output = alone.outputs[0]
        kind = ir.DataType.INT32 if node.op_type == "MatMulInteger" else ir.DataType.FLOAT
        output.name, output.type = "output", ir.TensorType(kind)
        graph = ir.Graph(
            [value for value in inputs if value is not None and value.producer() is None and value not in initializers],
            [output],
            nodes=[*before, alone],
            initializers=initializers,
            opset_imports={"": 24, "com.microsoft": 1},
        )
        proto = ir.to_proto(ir.Model(graph, ir_version=10))
        assert isinstance(proto, onnx.ModelProto)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, fed: Mapping[int, npt.NDArray[Any]]) -> Floats:
        result: Floats = self._session.run(None, {f"input_{index}": array for index, array in fed.items()})[0]
        return result


def _count_rows(node: ir.Node) -> int:
    """Rows of the weight that a node reads."""
    if node.op_type == "MatMulNBits":
        return node.attributes["N"].as_int()
    scales = node.inputs[2]  # an embedding's, one row for each of its own
    assert scales is not None
    return int(stored_constant(scales).shape[0])  # type: ignore[arg-type]


def _codes_of_planes(
    value: ir.Value, *, rows: tuple[int, int] | None, count: int
) -> tuple[list[ir.Node], list[ir.Value], ir.Value]:
    """`rows_of_planes` of some rows or all, their constants in memory."""
    first, last = rows or (0, count)

    def some(plane: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
        return _in_memory(rows_of(plane, first, last, rows=count, name=name))

    return rows_of_planes(value, some)


def _in_memory(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """A model that is handed over as bytes has no folder that its weights could lie in."""
    import onnx_ir as ir

    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)


def stored_constant(value: ir.Value) -> ir.TensorProtocol:
    """A constant, or the one behind a `Gather` of its rows, an `Identity`, or a `Cast`, which is carried out."""
    import onnx_ir as ir

    producer = value.producer()
    if producer is not None and producer.inputs[0] is not None:
        value = producer.inputs[0]
    stored = value.const_value
    assert stored is not None, f"{value.name} is no constant"
    if producer is not None and producer.op_type == "Cast":
        wide = ir.DataType(producer.attributes["to"].as_int())
        return ir.Tensor(stored.numpy().astype(wide.numpy()), dtype=wide)
    if stored.dtype == ir.DataType.FLOAT16:  # scales of a graph computed in half: every one of them is exact
        return ir.Tensor(stored.numpy().astype(np.float32), dtype=ir.DataType.FLOAT)
    return _in_memory(stored)
