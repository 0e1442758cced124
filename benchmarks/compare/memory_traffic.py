"""Bytes that a decode step has to read, from what lies in the artifact: all weights once, and each row's state."""

from __future__ import annotations

import math

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.signature import CAPACITY, SOURCE

_BYTES = {
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "int32": 4,
    "int64": 8,
}
_FLOAT32 = 4


def weight_bytes(artifact: Artifact, backend: str) -> float | None:
    """Weights that one step multiplies by, in the form that the backend holds them; None where that is not known.

    An embedding of which a step reads one row counts only where it is the output projection, too.
    """
    if backend == "torch":
        # A step leaves an encoder's alone, and nothing says how many those are.
        if artifact.manifest.signature.encoded:
            return None
        return float(_FLOAT32 * artifact.manifest.model.parameters)
    from jisu.exporter.estimates.matmuls import products_of

    try:
        products = products_of(artifact.cpu_graph)
    except ImportError:  # running needs no onnx
        return None
    return sum(product.bytes * product.count for product in products) or None


def state_bytes(artifact: Artifact, *, batch: int, length: float, source: float = 0) -> float:
    """What a step reads of the rows' states when each holds ``length`` tokens, and an encoder has read ``source``."""
    sizes = {"B": batch, CAPACITY: length, SOURCE: source}
    return float(
        sum(
            _BYTES[spec.dtype] * math.prod(sizes.get(dim, 1) if isinstance(dim, str) else dim for dim in spec.dims)
            for spec in artifact.manifest.signature.state
        )
    )
