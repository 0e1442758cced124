"""`Attention` on [B, H, T, D] between reshapes and transposes -> `Attention` on [B, T, H*D], which needs neither.

`Attention`-24 takes both forms. ONNX Runtime's kernel reads the second where it lies: MiniLM reads 4 to 10 % more texts
a second without the four transposes of each layer, and its vectors are the same to the last bit (onnxruntime 1.32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import constant, dims, emit, nodes_of, producer, replace, used_once

if TYPE_CHECKING:
    import onnx_ir as ir

_SWAP = (0, 2, 1, 3)


def count_places(graph: ir.Graph) -> int:
    """Attentions whose queries, keys, values and outputs are all transposed."""
    return sum(_merged(node) is not None for node in nodes_of(graph, "Attention"))


def merge_attention_heads(graph: ir.Graph) -> int:
    """Let each of them read and write what lies on the other side of its transposes."""
    count = 0
    for node in nodes_of(graph, "Attention"):
        merged = _merged(node)
        if merged is None:
            continue
        *sources, output = merged
        attributes = {name: item.value for name, item in node.attributes.items()}
        for name, value in (("q_num_heads", node.inputs[0]), ("kv_num_heads", node.inputs[1])):
            assert value is not None
            attributes[name] = (dims(value) or ())[1]
        replace(output, emit(node, "Attention", [*sources, *node.inputs[3:]], attributes, like=output))
        transpose, reshape = _only_user(node.outputs[0], "Transpose"), output.producer()
        assert transpose is not None and reshape is not None
        graph.remove([reshape, transpose, node], safe=True)
        count += 1
    return count


def _merged(node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value] | None:
    """Query, key, value and output as [B, T, H*D], where all four are; None otherwise.

    A mask is the same in both forms. A past, and what is written besides the output, is [B, H, S, D] in both.
    """
    query, key, value = (_before_split(item) for item in node.inputs[:3])
    output = _after_merge(node.outputs[0])
    if query is None or key is None or value is None or output is None or len(node.outputs) != 1:
        return None
    return query, key, value, output


def _before_split(heads: ir.Value | None) -> ir.Value | None:
    """[B, T, H*D] of which a reshape and a transpose make [B, H, T, D]."""
    split = _swapped(heads)
    reshape = producer(split, "Reshape")
    if split is None or reshape is None or reshape.inputs[0] is None:
        return None
    whole, four = dims(reshape.inputs[0]), dims(split)
    if whole is None or four is None or len(whole) != 3 or len(four) != 4:
        return None
    heads_and_size = four[2:]
    if whole[:2] != four[:2] or not all(isinstance(size, int) for size in (whole[2], *heads_and_size)):
        return None
    return reshape.inputs[0] if whole[2] == int(heads_and_size[0]) * int(heads_and_size[1]) else None


def _after_merge(output: ir.Value) -> ir.Value | None:
    """[B, T, H*D] that a transpose and a reshape make of [B, H, T, D], where nothing else reads either."""
    transpose = _only_user(output, "Transpose")
    if transpose is None or tuple(transpose.attributes.get_ints("perm", ())) != _SWAP:
        return None
    reshape = _only_user(transpose.outputs[0], "Reshape")
    if reshape is None or constant(reshape.inputs[1]) is None:
        return None
    four, whole = dims(transpose.outputs[0]), dims(reshape.outputs[0])
    if four is None or whole is None or len(whole) != 3 or whole[:2] != four[:2]:
        return None
    if not all(isinstance(size, int) for size in (whole[2], *four[2:])):
        return None
    return reshape.outputs[0] if whole[2] == int(four[2]) * int(four[3]) else None


def _swapped(value: ir.Value | None) -> ir.Value | None:
    """What a transpose of heads and tokens was made of."""
    transpose = producer(value, "Transpose")
    if transpose is None or tuple(transpose.attributes.get_ints("perm", ())) != _SWAP:
        return None
    return transpose.inputs[0]


def _only_user(value: ir.Value, op_type: str) -> ir.Node | None:
    if not used_once(value):
        return None
    node = next(iter(value.uses())).node
    return node if node.op_type == op_type else None
