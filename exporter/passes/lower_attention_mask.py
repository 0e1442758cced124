"""Exchanges the portable `past_length` for the `attention_mask` that the ONNX Runtime ecosystem passes.

`attention_mask` int64 [B, S] has a one for every token seen so far, the new ones included, and zeros after. With it a
row may bring fewer new tokens than T: its own new tokens are what the mask counts beyond its past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, LOGITS, PAST_LENGTH
from jisu.exporter.graph.match import dims, emit, new_constant, replace
from jisu.exporter.passes.lower_gqa import SEQLENS, TOTAL
from jisu.exporter.passes.select_logits import NEW_LENGTH

if TYPE_CHECKING:
    import onnx_ir as ir


def count_places(graph: ir.Graph) -> int:
    """The past length, where the graph takes one: a model without keys and values has no use for it."""
    return sum(value.name == PAST_LENGTH for value in graph.inputs)


def lower_attention_mask(graph: ir.Graph) -> int:
    """Compute the past length as max(sum(mask) - T, 0): right for one new token, for one row, for a prefill."""
    import numpy as np
    import onnx_ir as ir

    inputs = {value.name: value for value in graph.inputs}
    past = inputs.get(PAST_LENGTH)
    if past is None:
        return 0
    mask = ir.Value(name=ATTENTION_MASK, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["B", "S"]))
    graph.inputs[graph.inputs.index(past)] = mask
    first = next(iter(graph))
    one = new_constant(graph, "axis_1", np.array([1], dtype=np.int64))
    zero = new_constant(graph, "zero", np.array(0, dtype=np.int64))
    seen = emit(first, "ReduceSum", [mask, one], {"keepdims": 0})
    seen.type, seen.shape = ir.TensorType(ir.DataType.INT64), ir.Shape(["B"])
    new = emit(first, "Shape", [inputs[INPUT_IDS]], {"start": 1, "end": 2})
    new.type, new.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
    length = emit(first, "Max", [emit(first, "Sub", [seen, new]), zero])
    length.type, length.shape = seen.type, seen.shape

    known = {value.name: value for node in graph for value in node.outputs}
    int32 = {"to": int(ir.DataType.INT32)}
    if SEQLENS in known:
        replace(known[SEQLENS], emit(first, "Cast", [emit(first, "Sub", [seen, one])], int32, like=known[SEQLENS]))
        size = emit(first, "Squeeze", [emit(first, "Shape", [mask], {"start": 1, "end": 2})])
        replace(known[TOTAL], emit(first, "Cast", [size], int32, like=known[TOTAL]))
    if NEW_LENGTH in known:
        replace(known[NEW_LENGTH], emit(first, "Sub", [seen, length], like=known[NEW_LENGTH]))
    past.replace_all_uses_with(length)
    logits = next(value for value in graph.outputs if value.name == LOGITS)
    whole = dims(logits)
    if whole is not None and whole[1] == "K":
        # What the default positions give. onnxruntime-genai takes a declared 1 as the sign that the projection is
        # pruned; other lengths than the declared one are legal for ONNX Runtime.
        logits.shape = ir.Shape([whole[0], 1, *whole[2:]])
    return 1
