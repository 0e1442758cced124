"""The largest magnitude of every value that a graph computes on some text, found by running it on ONNX Runtime.

Only two numbers of each value leave the runtime, so that memory does not grow with the number of values; the graph runs
in pieces, so that it does not grow with the number of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.signature import (
    ATTENTION_MASK,
    CAPACITY,
    INPUT_IDS,
    LOGITS_POSITIONS,
    PAST_LENGTH,
    SOURCE,
    STATE_PREFIXES,
    TOKEN_TYPE_IDS,
)
from jisu.exporter.graph.evaluate import takes_one_token
from jisu.exporter.graph.graph_pieces import PIECE_BYTES, cut_graph, piece_model

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnx_ir as ir

# Endings of the names of what is measured: the largest magnitude, and a sum in which a NaN cannot be lost. The
# runtime's maximum passes a NaN over, depending on where it stands (onnxruntime 1.32).
_LARGEST, _SUM = ":largest", ":sum"
# Of an attention: its scores, which no value of the graph holds.
_SCORES = ":scores"
# Tokens of a window that a graph reads which takes one at a time.
_STEPS = 128
# A constant above this many bytes is handed over instead of being written into the model.
_INLINE = 1024


def measure_ranges(graph: ir.Graph, windows: Sequence[Any]) -> dict[str, float]:
    """Run each window from an empty state, the beginning of it token by token where the graph takes one at a time.

    Args:
        graph: the portable graph in float32; it is not changed.
        windows: token ids, int64 [T] each.

    Returns:
        Value name -> max |x| over all windows, NaN or infinity where there was one, in the order of the graph. The
        scores of an attention count as its output's.
    """
    import numpy as np
    import onnx_ir as ir

    if not windows:
        return {}
    model = ir.Model(graph.clone(), ir_version=11)
    weights = _weights_to_inputs(model.graph)
    names = _add_measures(model.graph)
    proto = ir.serde.serialize_model(model)
    by_token = takes_one_token(graph)
    carried = _carried(graph) if by_token else {}
    # What was computed so far of each window, and is still read.
    windows = [window[:_STEPS] if by_token else window for window in windows]
    values = [_first_call(graph, window) for window in windows]
    peaks: dict[str, float] = {}
    sizes = {name: tensor.nbytes for name, tensor in weights.items()}
    for piece in cut_graph(proto.graph, sizes, most=None if by_token else PIECE_BYTES):
        own = [name for name in names if name + _LARGEST in piece.writes]
        measured = [name + ending for name in own for ending in (_LARGEST, _SUM)]
        outputs = [*measured, *piece.carries, *carried.values()]
        run = _opened(piece_model(proto, piece, _element_types(values[0]), outputs))
        fed = {name: weights[name].numpy() for name in piece.reads if name in weights}
        for window, feeds in zip(windows, values, strict=True):
            for place, tokens in enumerate(window[:, None] if by_token else [window]):
                feeds |= {INPUT_IDS: np.asarray(tokens, np.int64)[None], PAST_LENGTH: np.array([place], np.int64)}
                results = run(outputs, {**feeds, **fed})
                feeds |= dict(zip((*piece.carries, *carried), results[len(measured) :], strict=True))
                for name, peak, total in zip(
                    own, results[: len(measured) : 2], results[1 : len(measured) : 2], strict=True
                ):
                    value = float("nan") if np.isnan(total) else float(peak)
                    key = name.removesuffix(_SCORES)
                    # In this order a NaN, once there, stays.
                    peaks[key] = value if not value <= peaks.get(key, 0.0) else peaks.get(key, 0.0)
            for name in piece.ends & feeds.keys():
                del feeds[name]
        del fed, run
    return peaks


def _element_types(values: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, int]:
    import onnx

    return {name: onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in values.items()}


def _opened(model: onnx.ModelProto) -> Callable[[list[str], Mapping[str, Any]], list[Any]]:
    """Runs a model: names of outputs and arrays by name, of which it takes those it reads -> the outputs."""
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # No value is kept longer than until it is measured, which happens right behind its node: all together they may be
    # larger than the model.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    read = {item.name for item in (*session.get_inputs(), *session.get_overridable_initializers())}

    def run(outputs: list[str], feeds: Mapping[str, Any]) -> list[Any]:
        results: list[Any] = session.run(outputs, {name: array for name, array in feeds.items() if name in read})
        return results

    return run


def _carried(graph: ir.Graph) -> dict[str, str]:
    """Names of the states that a call reads -> of those that it writes for the next one."""
    written = {value.name for value in graph.outputs}
    pairs = [
        (value.name, after + value.name.removeprefix(before))
        for value in graph.inputs
        for before, after in STATE_PREFIXES.values()
        if value.name is not None and value.name.startswith(before)
    ]
    return {past: present for past, present in pairs if present in written}


def _weights_to_inputs(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    """Let large constants be inputs, whose memory the runtime reads where it is; returns them by name."""
    import onnx_ir as ir

    weights = {}
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _INLINE or value.is_graph_input():
            continue
        if tensor.dtype in (ir.DataType.INT4, ir.DataType.UINT4):
            continue  # numpy's arrays of them are not taken (onnxruntime 1.32)
        weights[name] = tensor
        del graph.initializers[name]
        value.const_value = None
        graph.inputs.append(value)
    return weights


def _add_measures(graph: ir.Graph) -> list[str]:
    """Make two outputs for each float value, in the order of the graph; returns the values' names."""
    import onnx_ir as ir

    names = []
    for node in list(graph):
        behind = _Behind(node)
        values = [value for value in node.outputs if value.dtype == ir.DataType.FLOAT and value.name]
        if node.op_type == "Attention" and (scores := _scores(graph, node, behind)) is not None:
            values.append(scores)
        for value in values:
            assert value.name is not None
            magnitudes = behind.add("Abs", [value])
            for ending, op_type, source in ((_LARGEST, "ReduceMax", magnitudes), (_SUM, "ReduceL1", value)):
                output = behind.add(op_type, [source], keepdims=0)
                output.name, output.type, output.shape = value.name + ending, value.type, ir.Shape([])
                graph.outputs.append(output)
            names.append(value.name)
    return names


def _scores(graph: ir.Graph, node: ir.Node, behind: _Behind) -> ir.Value | None:
    """scale * q @ k^T of an attention without its mask, when its heads have an axis of their own."""
    import numpy as np
    import onnx_ir as ir

    query, key = node.inputs[:2]
    if query is None or key is None or query.shape is None or len(query.shape) != 4 or key.shape is None:
        return None
    heads, size = key.shape[1], query.shape[3]
    if not isinstance(heads, int) or not isinstance(size, int):
        return None
    dims = ir.Value(name=f"{node.outputs[0].name}:dims", const_value=ir.tensor(np.array([0, heads, -1, size])))
    dims.const_value.name = dims.name  # type: ignore[union-attr]
    dims.type, dims.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([4])
    scale_of = node.attributes.get_float("scale", size**-0.5)
    scale = ir.Value(name=f"{node.outputs[0].name}:scale", const_value=ir.tensor(np.float32(scale_of)))
    scale.const_value.name = scale.name  # type: ignore[union-attr]
    scale.type, scale.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    graph.register_initializer(dims)
    graph.register_initializer(scale)
    grouped = behind.add("Reshape", [query, dims])  # [B, Hkv, H / Hkv * T, D]
    products = behind.add("MatMul", [grouped, behind.add("Transpose", [key], perm=[0, 1, 3, 2])])
    scores = behind.add("Mul", [products, scale])
    scores.name, scores.type = f"{node.outputs[0].name}{_SCORES}", query.type
    return scores


class _Behind:
    """Adds nodes behind one node, each behind the one before."""

    def __init__(self, node: ir.Node) -> None:
        self._last = node

    def add(self, op_type: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        import onnx_ir as ir

        node = ir.node(op_type, inputs, attributes)
        assert self._last.graph is not None
        self._last.graph.insert_after(self._last, node)
        self._last = node
        return node.outputs[0]


def _first_call(graph: ir.Graph, window: Any) -> dict[str, np.ndarray[Any, Any]]:
    """One row with nothing before it, an empty state with room for exactly these tokens, and all logits asked for.

    Of a source that an encoder read there is one token, whose keys and values are zeros.
    """
    import numpy as np

    count = len(window)
    feeds: dict[str, np.ndarray[Any, Any]] = {
        INPUT_IDS: np.asarray(window, np.int64)[None],
        ATTENTION_MASK: np.ones((1, count), np.int64),
        TOKEN_TYPE_IDS: np.zeros((1, count), np.int64),
        PAST_LENGTH: np.zeros(1, np.int64),
        LOGITS_POSITIONS: np.arange(count)[None],
    }
    for value in graph.inputs:
        if value.name not in feeds and value.shape is not None and value.dtype is not None and value.name is not None:
            letters = [dim if isinstance(dim, int) else str(dim.value) for dim in value.shape]
            sizes = [dim if isinstance(dim, int) else count if dim == CAPACITY else 1 for dim in letters]
            source_mask = SOURCE in letters and not value.dtype.is_floating_point()
            feeds[value.name] = np.full(sizes, source_mask, value.dtype.numpy())
    return feeds
