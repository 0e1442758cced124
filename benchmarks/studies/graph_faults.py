"""Faults of a graph's computation that show only somewhere: behind a position, in long calls, in ragged batches.

Each takes an `onnx_ir.Graph` and edits it; `jisu.benchmarks.studies.faults.nodes` makes a damage of it. What shows
everywhere is in `jisu.benchmarks.studies.faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# (operator, inputs, attributes); a number among the inputs is the result of an earlier one.
Step = tuple[str, Sequence[Any], dict[str, Any]]
_INT64 = 7
_WINDOW = 64  # of the tiny models that have one


def shift_positions(graph: Any, *, behind: int) -> None:
    """Positions one too small after a past of more than ``behind`` tokens, where operators take positions."""
    rotated = [node for node in graph if node.op_type == "RotaryEmbedding"]
    assert rotated, "no rotary operator"
    positions = rotated[0].inputs[3]
    after = _number(graph, "after", behind)
    steps: list[Step] = [
        ("Greater", [_input(graph, "past_length"), after], {}),
        ("Cast", [0], {"to": _INT64}),
        ("Unsqueeze", [1, _number(graph, "second_axis", [1])], {}),
        ("Sub", [positions, 2], {}),
    ]
    _insert(graph, positions, steps, readers=rotated)


def widen_window(graph: Any, *, behind: int) -> None:
    """A window one wider for positions behind ``behind``, where a mask is computed."""
    reader = next(node for node in graph if node.op_type == "Greater" and node.inputs[1].producer().op_type == "Sub")
    first = reader.inputs[1]
    steps: list[Step] = [
        ("Greater", [first, _number(graph, "edge", behind - _WINDOW)], {}),
        ("Cast", [0], {"to": _INT64}),
        ("Sub", [first, 1], {}),
    ]
    _insert(graph, first, steps, readers=[reader])


def halve_logits_of_long_calls(graph: Any, *, longer_than: int = 300, factor: float = 0.5) -> None:
    """Logits times a factor in calls of more tokens."""
    steps: list[Step] = [
        ("Shape", [_input(graph, "input_ids")], {"start": 1, "end": 2}),
        ("Greater", [0, _number(graph, "call", longer_than)], {}),
        ("Where", [1, _number(graph, "factor", factor, np.float32), _number(graph, "one", 1.0, np.float32)], {}),
        ("Mul", [_output(graph, "logits"), 2], {}),
    ]
    _replace_output(graph, "logits", steps)


def halve_logits_far(graph: Any, *, behind: int = 300, factor: float = 0.5) -> None:
    """Logits times a factor where a call's first row has more tokens behind it, the call's own included."""
    mask = _input(graph, "attention_mask")
    steps: list[Step] = [
        ("Shape", [mask], {"start": 1, "end": 2}),
        ("Greater", [0, _number(graph, "past", behind)], {}),
        ("Where", [1, _number(graph, "factor", factor, np.float32), _number(graph, "one", 1.0, np.float32)], {}),
        ("Mul", [_output(graph, "logits"), 2], {}),
    ]
    _replace_output(graph, "logits", steps)


def mix_rows_of_ragged_batches(graph: Any) -> None:
    """Logits of the rows in the reverse order where rows of a batch are of unequal lengths."""
    last = [_number(graph, "second_axis", [1])]
    first, minus, zero = _number(graph, "first", [0]), _number(graph, "minus", [-1]), _number(graph, "nil", 0)
    length = [("ReduceSum", [_input(graph, "attention_mask"), *last], {"keepdims": 0})]
    steps: list[Step] = [
        *length,
        ("ReduceMax", [0, first], {"keepdims": 0}),
        ("ReduceMin", [0, first], {"keepdims": 0}),
        ("Greater", [1, 2], {}),
        ("Shape", [_input(graph, "input_ids")], {"start": 0, "end": 1}),
        ("Squeeze", [4], {}),
        ("Range", [zero, 5, _number(graph, "step", 1)], {}),
        ("Add", [4, minus], {}),
        ("Sub", [7, 6], {}),
        ("Where", [3, 8, 6], {}),
        ("Gather", [_output(graph, "logits"), 9], {"axis": 0}),
    ]
    _replace_output(graph, "logits", steps)


def see_padding(graph: Any, mask: str) -> None:
    """Whatever a mask hides is seen."""
    value = _input(graph, mask)
    readers = [node for node in graph if value in node.inputs and node.op_type == "Cast"]
    assert readers, f"nobody casts {mask}"
    _insert(graph, value, [("Add", [value, _number(graph, "seen", 1)], {})], readers=readers)


def send_elsewhere(graph: Any, *, experts: int, first_only: bool = True) -> None:
    """Routers send each token to the experts that they like least: number n becomes experts - 1 - n."""
    chosen = [node for node in graph if node.op_type == "TopK" and node.inputs[0].dtype is not None]
    routers = [node for node in chosen if node.inputs[0].dtype.is_floating_point()]
    assert routers, "no router"
    for node in routers[:1] if first_only else routers:
        value = node.outputs[1]
        readers = list(value.consumers())
        _insert(graph, value, [("Sub", [_number(graph, "experts", experts - 1), value], {})], readers=readers)


def forget_far_tokens(graph: Any, mask: str, *, behind: int = 300) -> None:
    """Tokens of a text behind a position are taken for padding."""
    value = _input(graph, mask)
    readers = list(value.consumers())
    _insert(
        graph,
        value,
        [
            ("CumSum", [value, _number(graph, "axis", 1)], {}),
            ("LessOrEqual", [0, _number(graph, "behind", behind)], {}),
            ("Cast", [1], {"to": 7}),
            ("Mul", [value, 2], {}),
        ],
        readers=readers,
    )


def exchange_constants(*names: str) -> Callable[[Any], None]:
    """Two constants of one shape in each other's place."""

    def edit(graph: Any) -> None:
        first, second = (graph.initializers[name] for name in names)
        one, other = (np.ascontiguousarray(value.const_value.numpy()).copy() for value in (first, second))
        assert one.shape == other.shape
        import onnx_ir as ir

        first.const_value = ir.Tensor(other, dtype=first.const_value.dtype, name=first.name)
        second.const_value = ir.Tensor(one, dtype=second.const_value.dtype, name=second.name)

    return edit


def _input(graph: Any, name: str) -> Any:
    return next(value for value in graph.inputs if value.name == name)


def _output(graph: Any, name: str) -> Any:
    return next(value for value in graph.outputs if value.name == name)


def _number(graph: Any, name: str, number: Any, kind: type = np.int64) -> Any:
    import onnx_ir as ir

    name = f"fault.{name}"
    if name not in graph.initializers:
        tensor = ir.tensor(np.asarray(number, kind), name=name)
        graph.initializers[name] = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(np.shape(number)), const_value=tensor
        )
    return graph.initializers[name]


def _made(graph: Any, steps: Sequence[Step]) -> list[Any]:
    import onnx_ir as ir

    nodes: list[Any] = []
    for op_type, inputs, attributes in steps:
        read = [nodes[item].outputs[0] if isinstance(item, int) else item for item in inputs]
        node = ir.node(op_type, read, attributes)
        node.outputs[0].name = f"fault.{op_type}.{len(nodes)}"
        nodes.append(node)
    return nodes


def _insert(graph: Any, value: Any, steps: Sequence[Step], *, readers: Sequence[Any]) -> None:
    """Let some readers of a value read the last step's result instead."""
    nodes = _made(graph, steps)
    producer = value.producer()
    if producer is None:
        graph.insert_before(next(iter(graph)), nodes)
    else:
        graph.insert_after(producer, nodes)
    for reader in readers:
        for index, read in enumerate(reader.inputs):
            if read is value:
                reader.replace_input_with(index, nodes[-1].outputs[0])


def _replace_output(graph: Any, name: str, steps: Sequence[Step]) -> None:
    place = next(index for index, value in enumerate(graph.outputs) if value.name == name)
    old = graph.outputs[place]
    nodes = _made(graph, steps)
    graph.extend(nodes)
    new = nodes[-1].outputs[0]
    new.type, new.shape, old.name = old.type, old.shape, f"{name}.right"
    new.name = name
    graph.outputs[place] = new
