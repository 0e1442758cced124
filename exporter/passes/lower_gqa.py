"""`TensorScatter` + `Attention` with a causal mask -> `GroupQueryAttention` of ONNX Runtime, rotary embedding inside.

The operator appends to a shared key/value buffer in place and reads only its valid part. Its contract: rows padded on
the right, `seqlens_k` int32 [B] the last valid key position of each row, `total_sequence_length` int32 the longest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.signature import INPUT_IDS, PAST_LENGTH, TOKEN_TYPES
from jisu.exporter.graph.match import ancestors, dims, emit, new_constant, nodes_of, producer, replace

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

DOMAIN = "com.microsoft"
# Names of the two int32 inputs, so that a target may compute them from what its callers provide.
SEQLENS = "seqlens_k"
TOTAL = "total_sequence_length"
# A window that is not seen within so many positions of a model without a stated maximum is taken for none.
_LONGEST = 1 << 15
# Masks are run over no more positions than these (15 bytes each), and over no fewer, where windows would not show.
_MOST, _FEWEST = 1 << 22, 16
# The eleventh input of the operator is added to its scores; so much below zero nothing of a key is left.
_BIAS_PLACE, _UNSEEN = 10, -1e30
# Head sizes that the kernels take are multiples of it (onnxruntime 1.32: "head_size must be a multiple of 8").
_HEAD_UNIT = 8


def count_places(graph: ir.Graph, *, max_positions: int | None) -> int:
    """Attention operators over a cache that are within what `GroupQueryAttention` is documented to compute."""
    return sum(reason is None for reason in _reasons(graph, max_positions))


def note(graph: ir.Graph, *, max_positions: int | None) -> str | None:
    """How many attentions over a cache stay standard operators, and why; None when all of them can be replaced."""
    counts = Counter(reason for reason in _reasons(graph, max_positions) if reason is not None)
    return "; ".join(f"{count} attentions kept: {reason}" for reason, count in counts.items()) or None


def lower_gqa(graph: ir.Graph, *, max_positions: int | None) -> int:
    """Replace every attention that the operator can express; others stay standard operators."""
    from jisu.exporter.graph.evaluate import find_positions

    positions = find_positions(graph, PAST_LENGTH, INPUT_IDS)
    windows = _Windows(graph, max_positions)
    longest = min(max_positions or _LONGEST, _MOST)
    count = 0
    for node in nodes_of(graph, "Attention"):
        match = _match(node)
        if match is None:
            continue
        window = windows.of(match.mask)
        if window is not None:
            _rewrite(graph, node, match, positions, window if window < longest else -1)
        elif is_typed(match.mask):
            _rewrite(graph, node, match, positions, None)
        else:
            continue
        count += 1
    return count


def _reasons(graph: ir.Graph, max_positions: int | None) -> list[str | None]:
    """For each attention over a cache, why the operator cannot express it; None where it can."""
    windows = _Windows(graph, max_positions)
    return [
        _limit(node, windows)
        for node in nodes_of(graph, "Attention")
        if producer(node.inputs[1], "TensorScatter") is not None
    ]


def _limit(node: ir.Node, windows: _Windows) -> str | None:
    sizes = [(dims(value) or ("",))[-1] for value in node.inputs[:3] if value is not None]
    if len(set(sizes)) != 1:
        return "keys and values have heads of different sizes"
    if not isinstance(sizes[0], int) or sizes[0] % _HEAD_UNIT:
        return f"head size {sizes[0]} is not a multiple of {_HEAD_UNIT}"
    if producer(node.inputs[2], "TensorScatter") is None:
        return "values are changed between the cache and the attention"
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    known = mask is not None and (windows.of(mask) is not None or is_typed(mask))
    return None if known else "mask is not causal"


class _Windows:
    """The windows of a graph's masks, each looked for once: layers share them."""

    def __init__(self, graph: ir.Graph, max_positions: int | None) -> None:
        self._graph = graph
        self._positions = min(max(max_positions or _LONGEST, _FEWEST), _MOST)
        self._known: dict[int, int | None] = {}

    def of(self, mask: ir.Value) -> int | None:
        if id(mask) not in self._known:
            self._known[id(mask)] = causal_window(self._graph, mask, self._positions)
        return self._known[id(mask)]


@dataclass(frozen=True, kw_only=True)
class _Attention:
    """One attention with its cache; query, key and value are the new tokens' [B, heads, T, D]."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    mask: ir.Value
    key_scatter: ir.Node
    value_scatter: ir.Node


def _match(node: ir.Node) -> _Attention | None:
    if len(node.inputs) != 4 or len(node.outputs) != 1:
        return None
    query, _, _, mask = node.inputs
    scatters = [producer(value, "TensorScatter") for value in node.inputs[1:3]]
    if query is None or mask is None or scatters[0] is None or scatters[1] is None:
        return None
    if not all(_appends(scatter) for scatter in scatters if scatter is not None):
        return None
    pasts = [scatter.inputs[0] for scatter in scatters if scatter is not None]
    shapes = [dims(past) for past in pasts if past is not None and past.is_graph_input()]
    if len(shapes) != 2 or shapes[0] != shapes[1] or shapes[0] is None or int(shapes[0][3]) % _HEAD_UNIT:
        return None
    key, value = scatters[0].inputs[1], scatters[1].inputs[1]
    assert key is not None and value is not None
    return _Attention(query=query, key=key, value=value, mask=mask, key_scatter=scatters[0], value_scatter=scatters[1])


def _appends(scatter: ir.Node) -> bool:
    """Whether the new keys or values go where the row's past ends, as the operator puts them."""
    start = scatter.inputs[2] if len(scatter.inputs) > 2 else None
    if start is None or not start.is_graph_input() or start.name != PAST_LENGTH:
        return False
    return (
        scatter.attributes.get_int("axis", -2) in (2, -2)
        and scatter.attributes.get_string("mode", "linear") == "linear"
    )


def _rewrite(
    graph: ir.Graph, node: ir.Node, attention: _Attention, positions: ir.Value | None, window: int | None
) -> None:
    """Replace one attention; without a window its mask becomes a bias, which costs a call no time that shows."""
    query, key = attention.query, attention.key
    rotary = _shared_rotary(query, key, positions)
    attributes: dict[str, int | float] = {
        "local_window_size": -1 if window is None else window,
        "scale": node.attributes.get_float("scale", 0.0),
    }
    if node.attributes.get_float("softcap", 0.0):
        attributes["softcap"] = node.attributes.get_float("softcap", 0.0)
    tables: list[ir.Value | None] = []
    if rotary is not None:
        query, key, *tables = rotary
        attributes |= {"do_rotary": 1, "rotary_interleaved": 0}
    past_key, past_value = attention.key_scatter.inputs[0], attention.value_scatter.inputs[0]
    assert past_key is not None and past_value is not None
    heads, kv_heads = (dims(query) or ())[1], (dims(past_key) or ())[1]
    size = (dims(past_key) or ())[3]
    assert isinstance(heads, int) and isinstance(kv_heads, int) and isinstance(size, int)
    attributes |= {"num_heads": heads, "kv_num_heads": kv_heads}
    seqlens, total = lengths(graph)
    inputs = [
        _merge_heads(graph, node, query, heads * size),
        _merge_heads(graph, node, key, kv_heads * size),
        _merge_heads(graph, node, attention.value, kv_heads * size),
        past_key,
        past_value,
        seqlens,
        total,
        *tables,
    ]
    if window is None:
        attributes["causal"] = 0
        inputs += [None] * (_BIAS_PLACE - len(inputs))
        inputs.append(_bias(graph, node, attention.mask, total))
    output = _output(graph, node, inputs, attributes, heads=heads, size=size)
    gqa = output.producer()
    assert gqa is not None
    for scatter, place in ((attention.key_scatter, 1), (attention.value_scatter, 2)):
        replace(scatter.outputs[0], gqa.outputs[place])
    # [B, T, H*D] -> [B, H, T, D], which the transpose that followed the attention undoes
    split = new_constant(graph, f"shape_0_0_{heads}_{size}", _int64([0, 0, heads, size]))
    four = emit(node, "Reshape", [output, split])
    whole = dims(node.outputs[0])
    assert whole is not None
    _shape(four, node.outputs[0], [whole[0], whole[2], heads, size])
    replace(node.outputs[0], emit(node, "Transpose", [four], {"perm": [0, 2, 1, 3]}, like=node.outputs[0]))


def _output(
    graph: ir.Graph,
    node: ir.Node,
    inputs: list[ir.Value | None],
    attributes: dict[str, int | float],
    *,
    heads: int,
    size: int,
) -> ir.Value:
    import onnx_ir as ir

    outputs = [ir.Value(), ir.Value(), ir.Value()]
    for value, like in zip(outputs[1:], (inputs[3], inputs[4]), strict=True):
        assert like is not None
        value.type, value.shape = like.type, like.shape
    emit(node, "GroupQueryAttention", inputs, dict(attributes), domain=DOMAIN, outputs=outputs)
    whole = dims(node.outputs[0])
    assert whole is not None
    _shape(outputs[0], node.outputs[0], [whole[0], whole[2], heads * size])
    graph.opset_imports.setdefault(DOMAIN, 1)
    return outputs[0]


def is_typed(mask: ir.Value) -> bool:
    """Whether a mask is made of the types of tokens, as where the tokens of an image see each other."""
    nodes = ancestors(mask)
    return any(value is not None and value.name == TOKEN_TYPES for node in nodes for value in node.inputs)


def _bias(graph: ir.Graph, node: ir.Node, mask: ir.Value, total: ir.Value) -> ir.Value:
    """A mask bool [B, 1, T, capacity] as float32 [B, 1, T, total], made once, before the first that reads it."""
    import numpy as np
    import onnx_ir as ir

    name = f"{mask.name}_bias"
    known = next((value for node in graph for value in node.outputs if value.name == name), None)
    if known is not None:
        return known
    first, last = (new_constant(graph, name, _int64([number])) for name, number in (("bias_0", 0), ("bias_last", -1)))
    end = emit(node, "Unsqueeze", [emit(node, "Cast", [total], {"to": int(ir.DataType.INT64)}), first])
    seen = emit(node, "Slice", [mask, first, end, last])
    shown = new_constant(graph, "bias_seen", np.array(0, np.float32))
    hidden = new_constant(graph, "bias_unseen", np.array(_UNSEEN, np.float32))
    bias = emit(node, "Where", [seen, shown, hidden])
    bias.name, bias.type = name, ir.TensorType(ir.DataType.FLOAT)
    sizes = dims(mask)
    bias.shape = ir.Shape([*(sizes or ("B", 1, "T"))[:3], "S"])
    return bias


def _merge_heads(graph: ir.Graph, before: ir.Node, value: ir.Value, width: int) -> ir.Value:
    """[B, heads, T, D] -> [B, T, heads * D]; `remove_noops` cancels it against the model's own split."""
    whole = dims(value)
    assert whole is not None
    swapped = emit(before, "Transpose", [value], {"perm": [0, 2, 1, 3]})
    _shape(swapped, value, [whole[0], whole[2], whole[1], whole[3]])
    merged = emit(before, "Reshape", [swapped, new_constant(graph, f"shape_0_0_{width}", _int64([0, 0, width]))])
    _shape(merged, value, [whole[0], whole[2], width])
    return merged


def _shared_rotary(
    query: ir.Value, key: ir.Value, positions: ir.Value | None
) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value] | None:
    """(query, key, cos, sin) before rotation when both are rotated by the same tables at the tokens' own positions."""
    nodes = [producer(value, "RotaryEmbedding") for value in (query, key)]
    if nodes[0] is None or nodes[1] is None or positions is None:
        return None
    first, second = nodes[0].inputs, nodes[1].inputs
    if len(first) != 4 or first[3] is not positions or list(first[1:]) != list(second[1:]):
        return None
    assert first[0] is not None and second[0] is not None and first[1] is not None and first[2] is not None
    size, half = (dims(query) or ("",))[-1], (dims(first[1]) or ("",))[-1]
    # What the operator asks for as soon as it rotates (onnxruntime 1.32): heads of 16 n and tables of 8 n elements.
    if not isinstance(size, int) or not isinstance(half, int) or size % 16 or half % 8:
        return None
    if any(node.attributes.get_int("interleaved", 0) for node in nodes if node is not None):
        return None
    return first[0], second[0], first[1], first[2]


def lengths(graph: ir.Graph) -> tuple[ir.Value, ir.Value]:
    """`seqlens_k` and `total_sequence_length`, made once at the start of the graph."""
    import onnx_ir as ir

    known = {value.name: value for node in graph for value in node.outputs}
    if SEQLENS in known:
        return known[SEQLENS], known[TOTAL]
    first = next(iter(graph))
    inputs = {value.name: value for value in graph.inputs}
    new = emit(first, "Shape", [inputs[INPUT_IDS]], {"start": 1, "end": 2})
    after = emit(first, "Add", [inputs[PAST_LENGTH], new])
    one = new_constant(graph, "axis_1", _int64([1]))
    seqlens = emit(first, "Cast", [emit(first, "Sub", [after, one])], {"to": int(ir.DataType.INT32)})
    longest = emit(first, "ReduceMax", [after], {"keepdims": 0})
    total = emit(first, "Cast", [longest], {"to": int(ir.DataType.INT32)})
    seqlens.name, total.name = SEQLENS, TOTAL
    seqlens.type = total.type = ir.TensorType(ir.DataType.INT32)
    seqlens.shape, total.shape = ir.Shape(["B"]), ir.Shape([])
    return seqlens, total


def causal_window(graph: ir.Graph, mask: ir.Value, positions: int) -> int | None:
    """How many keys, its own included, each query sees under a mask; None when the mask is not of that kind.

    The mask's own arithmetic is run for rows of different lengths at the far end of the model's range (``positions``,
    at least 12), so that a window of any size shows.
    """
    import numpy as np

    from jisu.exporter.graph.evaluate import evaluate, takes_one_token

    if any(_reads_contents(node) for node in ancestors(mask)):
        return None
    new = 1 if takes_one_token(graph) else 5
    past = np.array([0, 7, positions - new], dtype=np.int64)
    feeds: dict[str, np.ndarray[Any, Any]] = {
        value.name or "": np.zeros((3, 1, positions, 1), dtype=np.float32) for value in graph.inputs
    }
    feeds |= {INPUT_IDS: np.zeros((3, new), dtype=np.int64), PAST_LENGTH: past}
    seen = evaluate(mask, feeds, opset=graph.opset_imports[""])
    if seen.dtype != np.bool_ or seen.shape != (3, 1, new, positions):
        return None
    query = (past[:, None] + np.arange(new))[:, None, :, None]
    key = np.arange(positions)[None, None, None, :]
    window = int(seen[2, 0, -1].sum())
    return window if np.array_equal(seen, (key <= query) & (key > query - window)) else None


def _reads_contents(node: ir.Node) -> bool:
    """Whether a node sees more of the graph's inputs than their sizes and the past length."""
    inputs = [value for value in node.inputs if value is not None and value.is_graph_input()]
    return node.op_type != "Shape" and any(value.name != PAST_LENGTH for value in inputs)


def _shape(value: ir.Value, like: ir.Value, sizes: list[int | str]) -> None:
    import onnx_ir as ir

    value.type, value.shape = like.type, ir.Shape(sizes)


def _int64(sizes: list[int]) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.array(sizes, dtype=np.int64)
