"""Questions that passes ask of a graph: who produced a value, is it constant, what are its dims; and small edits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

# A constant above this many elements is a weight: passes carry it along without looking inside.
_SMALL = 1 << 16


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that computes ``value`` if it is one of these operators."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in op_types else None


def nodes_of(graph: ir.Graph, op_type: str) -> list[ir.Node]:
    """All nodes of one operator in graph order, as a list that stays valid while the graph is edited."""
    return [node for node in graph if node.op_type == op_type]


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The elements of a small constant, None for anything else."""
    if value is None or value.const_value is None or value.is_graph_input() or value.const_value.size > _SMALL:
        return None
    return value.const_value.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The number in a constant with one element."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def is_weight(value: ir.Value | None) -> bool:
    """Whether the value is a constant of any size."""
    return value is not None and value.const_value is not None and not value.is_graph_input()


def dims(value: ir.Value) -> tuple[int | str, ...] | None:
    """The value's dims, letters for dynamic ones; None when its rank is not known."""
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)


def sizes_of(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    """A constant's dims, which are always numbers."""
    return tuple(int(size) for size in tensor.shape)  # type: ignore[arg-type]


def integer_bits(value: ir.Value) -> int:
    """Bits of an unsigned integer constant."""
    assert value.const_value is not None
    return int(value.const_value.dtype.bitwidth)


def used_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def either_way(node: ir.Node, matches: Callable[[ir.Value | None], bool]) -> tuple[ir.Value, ir.Value] | None:
    """The inputs of a commutative node as (other, wanted), None when neither input is wanted."""
    first, second = node.inputs
    assert first is not None and second is not None
    if matches(second):
        return first, second
    return (second, first) if matches(first) else None


def same_value(one: ir.Value | None, other: ir.Value | None) -> bool:
    """Whether two values are one, or computed by the same operator from the very same inputs."""
    if one is None or other is None or one is other:
        return one is other
    first, second = one.producer(), other.producer()
    if first is None or second is None or (first.domain, first.op_type) != (second.domain, second.op_type):
        return False
    settings = [{name: item.value for name, item in node.attributes.items()} for node in (first, second)]
    same_inputs = len(first.inputs) == len(second.inputs) and all(
        a is b for a, b in zip(first.inputs, second.inputs, strict=True)
    )
    return same_inputs and settings[0] == settings[1] and one.index() == other.index()


def ancestors(value: ir.Value) -> Iterator[ir.Node]:
    """Every node that ``value`` depends on, each once, users before producers."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        node = stack.pop().producer()
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(item for item in node.inputs if item is not None)


def new_constant(graph: ir.Graph, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """Add an initializer, or return the one of that name if it holds the same numbers."""
    import onnx_ir as ir

    if name in graph.initializers:
        old = graph.initializers[name]
        known = old.const_value
        assert known is not None
        if (
            known.dtype == ir.tensor(array).dtype
            and known.shape == array.shape
            and bool((known.numpy() == array).all())
        ):
            return old
        raise AssertionError(f"two constants named {name}")
    return add_initializer(graph, ir.tensor(array, name=name))


def add_initializer(graph: ir.Graph, tensor: ir.TensorProtocol) -> ir.Value:
    import onnx_ir as ir

    assert tensor.name is not None
    assert tensor.name not in graph.initializers, f"two constants named {tensor.name}"
    sizes = sizes_of(tensor)
    value = ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(sizes), const_value=tensor)
    graph.initializers[tensor.name] = value
    return value


def emit(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, Any] | None = None,
    *,
    domain: str = "",
    outputs: Sequence[ir.Value] | None = None,
    like: ir.Value | None = None,
) -> ir.Value:
    """Insert a node before another one and return its first output, typed and shaped like ``like`` when given."""
    import onnx_ir as ir

    node = ir.node(op_type, inputs, attributes or {}, domain=domain, outputs=outputs)
    assert before.graph is not None
    before.graph.insert_before(before, node)
    if like is not None:
        node.outputs[0].type, node.outputs[0].shape = like.type, like.shape
    return node.outputs[0]


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let everything that reads ``old`` read ``new``, which takes its name; the dead nodes are swept after the pass."""
    if new.type is None:
        new.type = old.type
    if new.shape is None:
        new.shape = old.shape
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None if name is None else f"{name}.replaced"
    if not is_weight(new) and not new.is_graph_input():
        new.name = name
