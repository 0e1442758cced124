"""Joins the weights of products that share their input, as tensors that are computed only when they are written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jisu.exporter.graph.match import add_initializer, sizes_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Quantized

_PARAMETERS = "parameters"
# Key of a tensor's notes: the tensors whose numbers it holds, in another order.
_ARRANGED = "arranged"
# Key of a node's metadata in the file: the parameters whose integers it reads, side by side, separated by spaces.
INTEGERS_OF = "jisu.integers_of"
# Key of a constant's metadata in the file: the parameters that lie side by side in it, for whoever compares them.
MADE_OF = "jisu.made_of"


def concat_weights(graph: ir.Graph, weights: Sequence[ir.Value], name: str) -> ir.Value:
    """One constant of all the weights side by side along their last axis; those that nobody reads any more go."""
    import numpy as np
    import onnx_ir as ir

    tensors = [weight.const_value for weight in weights if weight.const_value is not None]
    sizes = [sizes_of(tensor) for tensor in tensors]
    # Weights named by nothing but a number (layers.0.q, layers.1.q) leave the same stem in every layer.
    name = next(free for free in _numbered(name) if free not in graph.initializers)
    joined = ir.LazyTensor(
        lambda: ir.tensor(np.concatenate([tensor.numpy() for tensor in tensors], axis=-1)),
        dtype=tensors[0].dtype,
        shape=ir.Shape([*sizes[0][:-1], sum(size[-1] for size in sizes)]),
        name=name,
    )
    arrange(joined, tensors)
    value = add_initializer(graph, joined)
    value.meta[_PARAMETERS] = tuple(name for weight in weights for name in parameters_of(weight))
    value.metadata_props[MADE_OF] = " ".join(value.meta[_PARAMETERS])
    return value


def arrange(tensor: ir.LazyTensor, sources: Sequence[ir.TensorProtocol]) -> None:
    """Note that a tensor holds the numbers of others, and nothing else, in whatever order."""
    tensor.meta[_ARRANGED] = tuple(sources)


def unarranged(tensor: ir.TensorProtocol) -> Iterator[ir.TensorProtocol]:
    """The tensors whose numbers a tensor holds, each as it was before it was transposed or joined; or itself."""
    meta = getattr(tensor, "meta", {})
    if _ARRANGED not in meta:
        yield tensor
        return
    for source in meta[_ARRANGED]:
        yield from unarranged(source)


def parameters_of(weight: ir.Value) -> tuple[str, ...]:
    """Names of the model's parameters that lie side by side in a weight; its own name when it was never merged."""
    parts: tuple[str, ...] = weight.meta.get(_PARAMETERS, (weight.name or "",))
    return parts


def mark(value: ir.Value, parameters: Sequence[str]) -> None:
    """Let the node that makes a value say, in the file as well, which parameters' integers it reads."""
    node = value.producer()
    assert node is not None
    node.metadata_props[INTEGERS_OF] = " ".join(parameters)


def marked(node: ir.Node) -> tuple[str, ...]:
    """What `mark` said of a node."""
    return tuple(node.metadata_props.get(INTEGERS_OF, "").split())


def quantized_alike(weights: Sequence[ir.Value], quantized: Mapping[str, Quantized]) -> bool:
    """Whether weights can become one: all of them quantized in one way, or none of them."""
    parts = [quantized.get(name) for weight in weights for name in parameters_of(weight)]
    return len({_way(part) for part in parts}) == 1


def _way(part: Quantized | None) -> tuple[Any, ...] | None:
    """What parts of one weight have in common: format, order of columns, scales of channels, columns for sums."""
    if part is None:
        return None
    arrays = (getattr(part, "columns", None), part.channel_scales)
    return (part.format, getattr(part, "sums", 0), *(None if array is None else array.tobytes() for array in arrays))


def _numbered(name: str) -> Iterator[str]:
    """The name itself, then with 1, 2 ... in front of its last part."""
    yield name
    stem, dot, last = name.rpartition(".")
    for number in itertools.count(1):
        yield f"{stem}{dot}{number}.{last}"


def drop_unread(graph: ir.Graph, values: Sequence[ir.Value]) -> None:
    """Remove constants without readers, so that their names are free and their memory is never touched."""
    for value in values:
        if value.name is not None and value.name in graph.initializers and not value.uses():
            del graph.initializers[value.name]
