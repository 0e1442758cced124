"""Makes the inputs for images optional: without them a graph reads plain text, as any other decoder.

It comes behind all passes of a recipe, which would take a default for a constant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.signature import IMAGE_FEATURES, IMAGE_INDEX, IMAGE_SHIFTS, TOKEN_TYPES

if TYPE_CHECKING:
    import onnx_ir as ir

_INPUTS = (IMAGE_FEATURES, IMAGE_INDEX, IMAGE_SHIFTS, TOKEN_TYPES)


def count_places(graph: ir.Graph) -> int:
    """The inputs for images that a call has to bring."""
    return sum(value.const_value is None for value in graph.inputs if value.name in _INPUTS)


def image_defaults(graph: ir.Graph) -> int:
    """Give each of these inputs a default: one row of features that nothing reads, no shift of any position, and no
    tokens that see later ones."""
    import numpy as np
    import onnx_ir as ir

    count = 0
    for value in graph.inputs:
        if value.name in _INPUTS and value.const_value is None:
            sizes = [dim if isinstance(dim, int) else 1 for dim in value.shape or ()]
            assert value.dtype is not None
            zeros = np.zeros(sizes, value.dtype.numpy())
            value.const_value = ir.tensor(zeros, dtype=value.dtype, name=value.name)
            graph.register_initializer(value)
            count += 1
    return count
