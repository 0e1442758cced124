"""`Attention` that TensorRT's own layer cannot express -> products, softmax and sums.

That layer takes a boolean mask and nothing else: no bound on the scores (soft cap) and no numbers added to them (ALiBi,
relative positions). `Attention`-24: softmax(softcap(scale * Q K^T) + mask) V.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import dims, emit, new_constant, nodes_of, replace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

# What a key that is not seen scores: finite, so that no difference of infinities can become NaN.
_UNSEEN = -1e30


def count_places(graph: ir.Graph) -> int:
    """Attentions that the layer cannot express and that are written as this file knows them."""
    return sum(reason_against_fusing(node) is not None and _is_known(node) for node in nodes_of(graph, "Attention"))


def note(graph: ir.Graph) -> str | None:
    """How many attentions are decomposed, and why."""
    reasons = [reason_against_fusing(node) for node in nodes_of(graph, "Attention") if _is_known(node)]
    counts = Counter(reason for reason in reasons if reason is not None)
    return "; ".join(f"{count} attentions decomposed: {reason}" for reason, count in counts.items()) or None


def decompose_attention(graph: ir.Graph) -> int:
    """Replace each of them; queries that share key heads are taken together, so that no key is copied."""
    count = 0
    for node in nodes_of(graph, "Attention"):
        if reason_against_fusing(node) is None or not _is_known(node):
            continue
        replace(node.outputs[0], _decomposed(graph, node))
        graph.remove(node, safe=True)
        count += 1
    return count


def reason_against_fusing(node: ir.Node) -> str | None:
    """Why TensorRT's attention layer cannot express a node; None where it can."""
    import onnx_ir as ir

    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if node.attributes.get_float("softcap", 0.0):
        return "its scores are bounded (soft cap)"
    if mask is not None and mask.dtype != ir.DataType.BOOL:
        return "numbers are added to its scores"
    return None


def _is_known(node: ir.Node) -> bool:
    """[B, H, T, D] in and out, without a past or lengths of its own."""
    query, key, value = node.inputs[:3]
    shapes = [dims(item) if item is not None else None for item in (query, key, value)]
    plain = not node.attributes.get_int("is_causal", 0) and all(item is None for item in node.inputs[4:])
    if not plain or len(node.outputs) != 1 or any(shape is None or len(shape) != 4 for shape in shapes):
        return False
    heads, kv_heads = (shape[1] for shape in shapes[:2] if shape is not None)
    return isinstance(heads, int) and isinstance(kv_heads, int) and heads % kv_heads == 0


class _Heads:
    """How the heads of an attention go together: [B, H, ...] where each query head has its keys, else in groups."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.graph, self.node = graph, node
        query, key = node.inputs[:2]
        assert query is not None and key is not None
        self.batch, self.heads, self.new, self.size = dims(query) or ()
        self.kv_heads, self.keys = (dims(key) or ())[1:3]
        assert isinstance(self.heads, int) and isinstance(self.kv_heads, int)
        self.group = self.heads // self.kv_heads
        mask = node.inputs[3] if len(node.inputs) > 3 else None
        of_head = mask is not None and len(dims(mask) or ()) == 4 and (dims(mask) or ())[1] != 1
        # A mask of its own for each query head needs the heads apart.
        self.copied = self.group > 1 and of_head
        self.grouped = self.group > 1 and not self.copied
        self.lead: list[int | str] = (
            [self.batch, self.kv_heads, self.group] if self.grouped else [self.batch, self.heads]
        )

    def of_queries(self, value: ir.Value) -> ir.Value:
        if not self.grouped:
            return value
        sizes = [0, self.kv_heads, self.group, -1, self.size]
        name = "shape_" + "_".join(map(str, sizes))
        shape = new_constant(self.graph, name, _int64(sizes))
        return self.shaped(emit(self.node, "Reshape", [value, shape]), [*self.lead, self.new, self.size])

    def of_keys(self, value: ir.Value) -> ir.Value:
        last = (dims(value) or ())[3]
        if self.copied:
            rows = new_constant(
                self.graph, f"heads_{self.heads}_of_{self.kv_heads}", _repeated(self.kv_heads, self.group)
            )
            copies = emit(self.node, "Gather", [value, rows], {"axis": 1})
            return self.shaped(copies, [self.batch, self.heads, self.keys, last])
        if not self.grouped:
            return value
        wide = emit(self.node, "Unsqueeze", [value, new_constant(self.graph, "axis_2", _int64([2]))])
        return self.shaped(wide, [self.batch, self.kv_heads, 1, self.keys, last])

    def of_mask(self, value: ir.Value) -> ir.Value:
        sizes = dims(value) or ()
        if not self.grouped or len(sizes) < 4:
            return value  # [T, S] and the like stretch over whatever is in front
        wide = emit(self.node, "Unsqueeze", [value, new_constant(self.graph, "axis_1", _int64([1]))])
        wide.type = value.type
        return self.shaped(wide, [sizes[0], 1, *sizes[1:]], like=value)

    def shaped(self, value: ir.Value, sizes: list[int | str], *, like: ir.Value | None = None) -> ir.Value:
        import onnx_ir as ir

        known = like if like is not None else self.node.inputs[0]
        assert known is not None
        value.type, value.shape = known.type, ir.Shape(sizes)
        return value


def _decomposed(graph: ir.Graph, node: ir.Node) -> ir.Value:
    import numpy as np
    import onnx_ir as ir

    heads = _Heads(graph, node)
    query, key, value = (item for item in node.inputs[:3] if item is not None)
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    assert isinstance(heads.size, int)
    scale = node.attributes.get_float("scale", 0.0) or heads.size**-0.5
    queries = heads.of_queries(query)
    queries = emit(node, "Mul", [queries, _number(graph, scale)], like=queries)
    keys = heads.of_keys(key)
    order = [*range(len(heads.lead)), len(heads.lead) + 1, len(heads.lead)]
    turned = heads.shaped(emit(node, "Transpose", [keys], {"perm": order}), _swapped(dims(keys) or ()))
    scores = heads.shaped(emit(node, "MatMul", [queries, turned]), [*heads.lead, heads.new, heads.keys])
    cap = node.attributes.get_float("softcap", 0.0)
    if cap:
        scores = emit(node, "Div", [scores, _number(graph, cap)], like=scores)
        scores = emit(node, "Tanh", [scores], like=scores)
        scores = emit(node, "Mul", [scores, _number(graph, cap)], like=scores)
    if mask is not None:
        seen = heads.of_mask(mask)
        if mask.dtype == ir.DataType.BOOL:
            scores = emit(node, "Where", [seen, scores, _number(graph, _UNSEEN)], like=scores)
        else:
            # What a model writes for "never seen" may be an infinity: bounded below, it stays a number.
            bounded = emit(node, "Max", [seen, _number(graph, _UNSEEN)], like=seen)
            scores = emit(node, "Add", [scores, bounded], like=scores)
    shares = emit(node, "Softmax", [scores], {"axis": -1}, like=scores)
    values = heads.of_keys(value)
    last = (dims(value) or ())[3]
    mixed = heads.shaped(emit(node, "MatMul", [shares, values]), [*heads.lead, heads.new, last])
    if heads.grouped:
        assert isinstance(last, int)
        sizes = [0, heads.heads, -1, last]
        shape = new_constant(graph, "shape_" + "_".join(map(str, sizes)), np.array(sizes, np.int64))
        mixed = emit(node, "Reshape", [mixed, shape], like=node.outputs[0])
    return mixed


def _number(graph: ir.Graph, value: float) -> ir.Value:
    import numpy as np

    return new_constant(graph, f"number_{value:.9g}", np.array(value, np.float32))


def _int64(sizes: list[int | str]) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.array(sizes, np.int64)


def _repeated(kv_heads: int | str, group: int) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.repeat(np.arange(int(kv_heads)), group)


def _swapped(sizes: tuple[int | str, ...]) -> list[int | str]:
    return [*sizes[:-2], sizes[-1], sizes[-2]]
