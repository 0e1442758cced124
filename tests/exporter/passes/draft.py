"""Drafts small graphs operator by operator, runs them on ONNX Runtime, and counts what they hold."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

OPSET = 24


class Draft:
    """A graph in the making. Values carry the dims that passes read; nothing is inferred."""

    def __init__(self) -> None:
        self.inputs: list[ir.Value] = []
        self.nodes: list[ir.Node] = []
        self.weights: list[ir.Value] = []

    def input(self, name: str, *dims: int | str, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(dims))
        self.inputs.append(value)
        return value

    def weight(self, array: Any, name: str | None = None) -> ir.Value:
        """A constant; plain lists of whole numbers become int64, everything else float32."""
        array = np.asarray(array)
        array = array.astype(
            np.int64 if array.dtype.kind == "i" else array.dtype if array.dtype == bool else np.float32
        )
        name = name or f"constant_{len(self.weights)}"
        shape = ir.Shape(array.shape)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
        self.weights.append(value)
        return value

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        dims: Sequence[int | str] | None = None,
        dtype: ir.DataType | None = None,
        name: str | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """Add a node with one output, which has the first input's dims and type unless told otherwise."""
        first = inputs[0]
        assert first is not None
        shape = first.shape if dims is None else ir.Shape(dims)
        kind = first.type if dtype is None else ir.TensorType(dtype)
        output = ir.Value(name=name or f"value_{len(self.nodes)}", type=kind, shape=shape)
        self.nodes.append(ir.node(op_type, inputs, attributes, domain=domain, outputs=[output]))
        return output

    def model(self, **outputs: ir.Value) -> ir.Model:
        """The graph with these outputs, which take their names from the keywords."""
        for name, value in outputs.items():
            value.name = name
        used = {id(item) for node in self.nodes for item in node.inputs}
        graph = ir.Graph(
            self.inputs,
            list(outputs.values()),
            nodes=self.nodes,
            initializers=[value for value in self.weights if id(value) in used],
            opset_imports={"": OPSET},
            name="draft",
        )
        return ir.Model(graph, ir_version=11)


def tied_embedding(draft: Draft, table: np.ndarray) -> tuple[ir.Value, ir.Value]:
    """Rows of a table [V, C] that ``ids`` name, and the product of ``x`` with all of them: one weight, ``w``."""
    count, features = table.shape
    ids, x = draft.input("ids", "B", "T", dtype=ir.DataType.INT64), draft.input("x", "B", "T", features)
    weight = draft.weight(table, "w")
    rows = draft.op("Gather", weight, ids, dims=["B", "T", features], axis=0)
    turned = draft.op("Transpose", weight, dims=[features, count], perm=[1, 0])
    return rows, draft.op("MatMul", x, turned, dims=["B", "T", count])


def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs on ONNX Runtime without its own fusions, by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        ir.serde.serialize_model(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    known = {item.name for item in (*session.get_inputs(), *session.get_overridable_initializers())}
    names = [item.name for item in session.get_outputs()]
    results = session.run(names, {name: array for name, array in feeds.items() if name in known})
    return dict(zip(names, results, strict=True))


def copied(model: ir.Model) -> ir.Model:
    """The graph as it is now, to be compared with what a pass makes of it."""
    return ir.serde.deserialize_model(copy.deepcopy(ir.serde.serialize_model(model)))


def operators(model: ir.Model) -> Counter[str]:
    """How often each operator occurs among the nodes that an output depends on."""
    import onnx_ir.passes.common as common_passes

    common_passes.RemoveUnusedNodesPass()(model)
    return Counter(node.op_type for node in model.graph)


def signature_names(model: ir.Model) -> tuple[list[str | None], list[str | None]]:
    return [value.name for value in model.graph.inputs], [value.name for value in model.graph.outputs]


def noise(*sizes: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32 numbers that are the same in every run."""
    return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)
