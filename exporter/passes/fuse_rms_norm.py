"""x / sqrt(mean(x^2) + epsilon) * weight -> `RMSNormalization` (Zhang and Sennrich 2019, eq. 4; ONNX opset 23)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.graph.match import (
    constant,
    dims,
    either_way,
    emit,
    is_weight,
    new_constant,
    producer,
    replace,
    same_value,
    scalar,
    used_once,
)

if TYPE_CHECKING:
    import onnx_ir as ir


def count_places(graph: ir.Graph) -> int:
    """Means over squares along the last axis: what every such norm contains."""
    return sum(1 for node in graph if node.op_type == "ReduceMean" and _squared(node) is not None)


def fuse_rms_norm(graph: ir.Graph) -> int:
    """Replace each spelled-out norm. A norm without a weight gets a weight of ones."""
    count = 0
    for node in list(graph):
        match = _normalized(node)
        if match is None:
            continue
        source, epsilon = match
        normalized = node.outputs[0]
        last = (dims(source) or ("",))[-1]
        if not isinstance(last, int):
            continue
        weight, output, anchor = _scaled(normalized, last)
        if weight is None:
            import numpy as np

            weight = new_constant(graph, f"ones_{last}", np.ones(last, dtype=np.float32))
        attributes = {"axis": -1, "epsilon": epsilon, "stash_type": 1}
        replace(output, emit(anchor, "RMSNormalization", [source, weight], attributes, like=output))
        count += 1
    return count


def _normalized(node: ir.Node) -> tuple[ir.Value, float] | None:
    """(x, epsilon) when the node computes x * rsqrt(mean(x^2) + epsilon), however the root is written."""
    if node.op_type == "Mul":
        pair = either_way(node, lambda value: _mean_under_inverse_root(value) is not None)
        if pair is None:
            return None
        source, root = pair
        mean = _mean_under_inverse_root(root)
    elif node.op_type == "Div":
        source, root = node.inputs  # type: ignore[assignment]
        square_root = producer(root, "Sqrt")
        mean = _mean_plus_epsilon(square_root.inputs[0]) if square_root is not None else None
    else:
        return None
    if mean is None or not same_value(_squared(mean[0]), source):
        return None
    return source, mean[1]


def _mean_under_inverse_root(value: ir.Value | None) -> tuple[ir.Node, float] | None:
    inverse = producer(value, "Reciprocal")
    if inverse is not None:
        root = producer(inverse.inputs[0], "Sqrt")
        return _mean_plus_epsilon(root.inputs[0]) if root is not None else None
    power = producer(value, "Pow")
    return _mean_plus_epsilon(power.inputs[0]) if power is not None and scalar(power.inputs[1]) == -0.5 else None


def _mean_plus_epsilon(value: ir.Value | None) -> tuple[ir.Node, float] | None:
    add = producer(value, "Add")
    pair = either_way(add, lambda item: scalar(item) is not None) if add is not None else None
    mean = producer(pair[0], "ReduceMean") if pair is not None else None
    epsilon = scalar(pair[1]) if pair is not None else None
    return (mean, epsilon) if mean is not None and epsilon is not None else None


def _squared(mean: ir.Node) -> ir.Value | None:
    """x when the node is the mean of x^2 over the last axis, kept as a dim."""
    source = mean.inputs[0]
    axes = constant(mean.inputs[1]) if len(mean.inputs) > 1 else None
    rank = len(dims(source) or ()) if source is not None else 0
    if axes is None or axes.tolist() not in ([-1], [rank - 1]) or mean.attributes.get_int("keepdims", 1) != 1:
        return None
    power = producer(source, "Pow")
    if power is not None and scalar(power.inputs[1]) == 2.0:
        return power.inputs[0]
    product = producer(source, "Mul")
    return product.inputs[0] if product is not None and product.inputs[0] is product.inputs[1] else None


def _scaled(normalized: ir.Value, size: int) -> tuple[ir.Value | None, ir.Value, ir.Node]:
    """(weight, result, its node): the product with a weight of ``size`` elements when only that follows."""
    own = normalized.producer()
    assert own is not None
    user = normalized.consumers()[0] if used_once(normalized) else None
    if user is not None and user.op_type == "Mul":
        pair = either_way(user, lambda value: is_weight(value) and value is not None and dims(value) == (size,))
        if pair is not None:
            return pair[1], user.outputs[0], user
    return None, normalized, own
