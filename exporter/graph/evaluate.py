"""What a value of a graph is, by running the part of the graph that computes it.

Passes use it to recognize masks and rotary tables by what they do instead of by how a model happens to write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.signature import INPUT_IDS
from jisu.exporter.graph.match import ancestors, dims

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir


def leaves(value: ir.Value) -> set[str]:
    """Names of the graph inputs that a value depends on."""
    inputs = [item for node in ancestors(value) for item in node.inputs if item is not None and item.is_graph_input()]
    return {item.name or "" for item in inputs} | ({value.name or ""} if value.is_graph_input() else set())


def evaluate(value: ir.Value, feeds: Mapping[str, np.ndarray[Any, Any]], *, opset: int) -> np.ndarray[Any, Any]:
    """Compute one value on ONNX Runtime.

    Args:
        value: any value of a graph.
        feeds: arrays by name for values to start from; must cut off every graph input that the value depends on. Their
            shapes need not be the declared ones as long as the operators in between agree.
        opset: version of the standard operators.

    Raises:
        KeyError: the value depends on a graph input that is not fed.
    """
    import onnx_ir as ir

    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()

    known: dict[int, ir.Value] = {}
    inputs, initializers, nodes = [], [], []

    def take(item: ir.Value) -> ir.Value:
        if id(item) in known:
            return known[id(item)]
        if item.name is not None and item.name in feeds:
            copy = ir.Value(name=item.name, type=ir.TensorType(ir.DataType.from_numpy(feeds[item.name].dtype)))
            inputs.append(copy)
        elif item.const_value is not None:
            copy = ir.Value(
                name=item.name,
                type=ir.TensorType(item.const_value.dtype),
                shape=item.shape,
                const_value=item.const_value,
            )
            initializers.append(copy)
        else:
            raise KeyError(item.name)
        known[id(item)] = copy
        return copy

    def visit(item: ir.Value) -> None:
        """Copy producers first, without recursion: chains of operators are as long as models are deep."""
        stack = [(item, False)]
        while stack:
            current, ready = stack.pop()
            node = current.producer()
            if id(current) in known:
                continue
            if current.name in feeds or node is None:
                take(current)
                continue
            if not ready:
                stack.append((current, True))
                stack.extend((source, False) for source in node.inputs if source is not None)
                continue
            outputs = [ir.Value(name=out.name, type=out.type) for out in node.outputs]
            sources = [None if source is None else known[id(source)] for source in node.inputs]
            nodes.append(ir.Node(node.domain, node.op_type, sources, list(node.attributes.values()), outputs=outputs))
            known.update({id(old): new for old, new in zip(node.outputs, outputs, strict=True)})

    visit(value)
    result = known[id(value)]
    graph = ir.Graph(inputs, [result], nodes=nodes, initializers=initializers, opset_imports={"": opset}, name="part")
    model = ir.Model(graph, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        ir.serde.serialize_model(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    used = {item.name: feeds[item.name] for item in inputs if item.name is not None}
    output: np.ndarray[Any, Any] = session.run(None, used)[0]
    return output


def takes_one_token(graph: ir.Graph) -> bool:
    """Whether each call of the graph brings exactly one new token for every row."""
    ids = next((value for value in graph.inputs if value.name == INPUT_IDS), None)
    return ids is not None and (dims(ids) or ())[1:] == (1,)


def find_positions(graph: ir.Graph, past_length: str, input_ids: str) -> ir.Value | None:
    """The value [B, T] that numbers every new token: the row's past length, plus one, plus two ..."""
    import numpy as np
    import onnx_ir as ir

    one = takes_one_token(graph)
    new = 1 if one else 4
    expected = np.array([3, 10])[:, None] + np.arange(new)
    feeds = {past_length: expected[:, 0], input_ids: np.zeros((2, new), dtype=np.int64)}
    kinds = ("Add", "Unsqueeze", "Reshape") if one else ("Add",)
    read = {past_length} if one else {past_length, input_ids}
    for node in graph:
        value = node.outputs[0]
        if node.op_type in kinds and value.dtype == ir.DataType.INT64 and leaves(value) == read:
            actual = evaluate(value, feeds, opset=graph.opset_imports[""])
            if actual.shape == expected.shape and bool((actual == expected).all()):
                return value
    return None
