"""Undoes the scaling of a weight's input channels in what feeds it (Lin et al. 2023, AWQ, section 3.2).

A weight quantized as W * s needs its input divided by s. Behind an RMS norm that is free: the norm's own weight is
divided. Anywhere else a product with 1 / s is put in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jisu.exporter.graph.match import add_initializer, emit, is_weight, new_constant, nodes_of
from jisu.exporter.graph.merge_weights import parameters_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Quantized

# Operator -> the input that holds the weight its normalized output is multiplied with.
_NORMS = {"RMSNormalization": 1, "SkipSimplifiedLayerNormalization": 2}
_FOLDED = "folded_channel_scales"


def count_places(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Products whose weights were scaled."""
    return sum(1 for node in nodes_of(graph, "MatMul") if _scales(node, quantized) is not None)


def fold_channel_scales(graph: ir.Graph, *, quantized: Mapping[str, Quantized]) -> int:
    """Divide what enters each product by its weight's channel scales."""
    import numpy as np
    import onnx_ir as ir

    count = 0
    for node in nodes_of(graph, "MatMul"):
        scales, source = _scales(node, quantized), node.inputs[0]
        if scales is None or source is None:
            continue
        users = [user for user in source.consumers() if user.op_type == "MatMul"]
        scales_of_users = [_scales(user, quantized) for user in users]
        alike = len(users) == len(source.uses()) and all(_equal(other, scales) for other in scales_of_users)
        weight = _norm_weight(source)
        if alike and weight is not None:
            assert weight.const_value is not None
            divided = (weight.const_value.numpy() / scales).astype(np.float32)
            name = f"{weight.name}.divided"
            norm = source.producer()
            assert norm is not None
            norm.replace_input_with(_NORMS[norm.op_type], add_initializer(graph, ir.tensor(divided, name=name)))
            done = users
        else:
            # Of a weight that is multiplied with several inputs the factor is there already.
            factor = new_constant(graph, f"{parameters_of_weight(node)[0]}.inverse_scales", 1 / scales)
            scaled = emit(node, "Mul", [source, factor], like=source)
            # Products of one input have its scales; nodes come in running order, so that this is the first of them.
            done = [user for user, other in zip(users, scales_of_users, strict=True) if _equal(other, scales)]
            for user in done:
                user.replace_input_with(0, scaled)
        for user in done:
            user.meta[_FOLDED] = True
        count += len(done)
    return count


def parameters_of_weight(node: ir.Node) -> tuple[str, ...]:
    """Names of the parameters in a product's weight, none when it has no constant weight."""
    weight = node.inputs[1]
    return parameters_of(weight) if weight is not None and is_weight(weight) else ()


def _scales(node: ir.Node, quantized: Mapping[str, Quantized]) -> npt.NDArray[np.float32] | None:
    """The channel scales of a product's weight, None when there are none or they have been folded."""
    parts = parameters_of_weight(node)
    if _FOLDED in node.meta or not parts or not set(parts) <= set(quantized):
        return None
    return quantized[parts[0]].channel_scales


def _equal(one: npt.NDArray[np.float32] | None, other: npt.NDArray[np.float32]) -> bool:
    import numpy as np

    return one is not None and np.array_equal(one, other)


def _norm_weight(source: ir.Value) -> ir.Value | None:
    """The weight of the norm that gives a value, when nothing else reads it."""
    norm = source.producer()
    if norm is None or norm.op_type not in _NORMS or norm.outputs[0] is not source:
        return None
    weight = norm.inputs[_NORMS[norm.op_type]]
    return weight if weight is not None and is_weight(weight) and len(weight.uses()) == 1 else None
