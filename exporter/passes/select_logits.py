"""Computes what only the logits need for the tokens whose logits somebody reads, and for no others.

A prefill of 256 tokens needs one row of logits; the projection onto the vocabulary is a fifth of a small model's work,
and the last layer's feed-forward part is not read for any other token either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.signature import INPUT_IDS, LOGITS, LOGITS_POSITIONS, PAST_LENGTH
from jisu.exporter.graph.evaluate import takes_one_token
from jisu.exporter.graph.match import add_initializer, dims, emit, is_weight, new_constant, producer

if TYPE_CHECKING:
    import onnx_ir as ir

# Operators that treat every token by itself: element-wise, or along the last axis.
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow", "Neg", "Sqrt", "Reciprocal", "Cast", "Identity", "Clip")
_ACTIVATIONS = ("Tanh", "Erf", "Sigmoid", "Relu", "Gelu", "Silu", "Swish", "Softplus")
_PER_TOKEN = frozenset({*_ELEMENTWISE, *_ACTIVATIONS, "MatMul", "RMSNormalization", "LayerNormalization"})
# Number of new tokens of each row, int64 [B]; a lowering that knows of padding replaces what computes it.
NEW_LENGTH = "new_length"
ONE_TOKEN = "the model takes one token at a time: a prompt runs through it token by token"


def count_places(graph: ir.Graph) -> int:
    """One, unless each call brings one token for every row: then there is nothing to choose from."""
    return 0 if takes_one_token(graph) else 1


def note(graph: ir.Graph) -> str | None:
    """Says so where the graph takes one token at a time."""
    return ONE_TOKEN if takes_one_token(graph) else None


def select_logits(graph: ir.Graph) -> int:
    """Gather the wanted tokens as early as nothing but the logits depends on the rest; at the latest behind them.

    Adds the optional input ``logits_positions`` int64 [1 or B, K] with the default [[-1]]: places among the new tokens
    of this call, negative ones counted from each row's end. The logits become [B, K, V].
    """
    logits = next(value for value in graph.outputs if value.name == LOGITS)
    if (dims(logits) or ())[:2] != ("B", "T"):
        return 0
    region = _region(graph, logits)
    if not any(node.op_type == "MatMul" for node in region):
        _choose_rows(graph, logits)
        return 1
    # In graph order, not the set's: the same model has to give the same bytes.
    ordered = [node for node in graph if node in region]
    frontier = list(dict.fromkeys(value for node in ordered for value in node.inputs if _is_wide(value)))
    inside = {id(value) for node in region for value in node.outputs}
    frontier = [value for value in frontier if value is not None and id(value) not in inside]
    index = _index(graph, ordered[0])
    for value in frontier:
        assert value is not None
        anchor = next(node for node in ordered if any(item is value for item in node.inputs))
        chosen = emit(anchor, "GatherND", [value, index], {"batch_dims": 1})
        chosen.type, chosen.shape = value.type, _with_k(value)
        for user, place in list(value.uses()):
            if user in region:
                user.replace_input_with(place, chosen)
    for node in region:
        node.outputs[0].shape = _with_k(node.outputs[0])
    return 1


def _choose_rows(graph: ir.Graph, logits: ir.Value) -> None:
    """Gather rows of finished logits: nothing is saved, but the graph is called like any other."""
    import onnx_ir as ir

    last = logits.producer()
    assert last is not None, "logits that are an input"
    # The index is computed in front of the last node, the rows are taken behind it.
    index = _index(graph, last)
    node = ir.node("GatherND", [logits, index], {"batch_dims": 1})
    graph.insert_after(last, node)
    chosen = node.outputs[0]
    chosen.type, chosen.shape = logits.type, _with_k(logits)
    graph.outputs[list(graph.outputs).index(logits)] = chosen
    name, logits.name = logits.name, f"{LOGITS}.all"
    chosen.name = name


def _region(graph: ir.Graph, logits: ir.Value) -> set[ir.Node]:
    """Every per-token node that is read by nothing but the logits, directly or through other such nodes."""
    region: set[ir.Node] = set()
    for node in reversed(list(graph)):
        output = node.outputs[0]
        if node.op_type not in _PER_TOKEN or node.domain or len(node.outputs) != 1 or not _is_wide(output):
            continue
        if output is not logits and (output.is_graph_output() or not output.uses()):
            continue
        if all(user in region for user in output.consumers()) and _keeps_tokens(node):
            region.add(node)
    return region


def _keeps_tokens(node: ir.Node) -> bool:
    """Whether each input is [B, T, ...] like the output, or the same for every token."""
    if node.op_type == "MatMul" and _is_wide(node.inputs[1]):
        return False
    if node.op_type.endswith("Normalization") and node.attributes.get_int("axis", -1) not in (-1, 2):
        return False  # over the tokens too
    return all(value is None or _is_wide(value) or _is_same_for_all(value) for value in node.inputs)


def _is_same_for_all(value: ir.Value) -> bool:
    """Constants, and the transposed embedding that a tied projection reads."""
    transpose = producer(value, "Transpose")
    if is_weight(value) or (transpose is not None and is_weight(transpose.inputs[0])):
        return True
    return "T" not in (dims(value) or ("T",))


def _is_wide(value: ir.Value | None) -> bool:
    whole = dims(value) if value is not None and not is_weight(value) else None
    return whole is not None and len(whole) == 3 and whole[:2] == ("B", "T")


def _with_k(value: ir.Value) -> ir.Shape:
    import onnx_ir as ir

    whole = dims(value)
    assert whole is not None
    return ir.Shape(["B", "K", *whole[2:]])


def _index(graph: ir.Graph, first: ir.Node) -> ir.Value:
    """The wanted places as GatherND reads them, int64 [B, K, 1]."""
    import numpy as np
    import onnx_ir as ir

    positions = add_initializer(graph, ir.tensor(np.array([[-1]], dtype=np.int64), name=LOGITS_POSITIONS))
    positions.shape = ir.Shape(["Bp", "K"])
    inputs = [value.name for value in graph.inputs]
    graph.inputs.insert(inputs.index(PAST_LENGTH if PAST_LENGTH in inputs else INPUT_IDS) + 1, positions)
    input_ids = next(value for value in graph.inputs if value.name == INPUT_IDS)
    batch = emit(first, "Shape", [input_ids], {"start": 0, "end": 1})
    new = emit(first, "Shape", [input_ids], {"start": 1, "end": 2})
    new_length = emit(first, "Expand", [new, batch])
    new_length.name, new_length.type = NEW_LENGTH, ir.TensorType(ir.DataType.INT64)
    new_length.shape = ir.Shape(["B"])
    zero = new_constant(graph, "zero", np.array(0, dtype=np.int64))
    one = new_constant(graph, "axis_1", np.array([1], dtype=np.int64))
    last = new_constant(graph, "axis_minus_1", np.array([-1], dtype=np.int64))
    from_end = emit(first, "Add", [positions, emit(first, "Unsqueeze", [new_length, one])])
    # `from_end` is [B, K]: choosing from it broadcasts one row of wanted places to every row of the batch.
    index = emit(first, "Where", [emit(first, "Less", [positions, zero]), from_end, positions])
    return emit(first, "Unsqueeze", [index, last])
