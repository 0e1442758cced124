"""Writes a graph and its weights: each weight is computed when its turn comes, and the same bytes are stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import (
    ENCODER,
    ENCODER_WEIGHTS,
    GRAPH,
    MAX_SHARD_BYTES,
    WEIGHTS,
    weight_file,
)

if TYPE_CHECKING:
    import onnx_ir as ir

# Smaller constants stay in the graph's own file.
_INLINE_BYTES = 256
# Endings of initializer names that hold the same bytes: what the embedding's operator reads, what the product's reads.
_ALIAS, _ORIGINAL = ".data", ".packed"


def save_graph(
    model: ir.Model,
    folder: Path,
    *,
    graph: str = GRAPH,
    weights: str = WEIGHTS,
    max_shard_size: int = MAX_SHARD_BYTES,
    written: Callable[[int], None] | None = None,
) -> None:
    """Write a graph and its weights into a folder; the model's weights point there afterwards.

    An initializer ``x.data`` beside an ``x.packed`` of as many bytes refers to the same place in the file: external
    data may be read in more than one shape.

    Args:
        max_shard_size: most bytes of a file of weights, which are several where one would be larger; a weight that is
            larger by itself has a file of its own.
        written: called after each weight with its bytes.
    """
    import onnx_ir as ir

    initializers = model.graph.initializers
    originals = {}
    for name, value in list(initializers.items()):
        original = initializers.get(name.removesuffix(_ALIAS) + _ORIGINAL) if name.endswith(_ALIAS) else None
        tensor = value.const_value
        if original is None or tensor is None or original.const_value is None:
            continue
        if tensor.nbytes == original.const_value.nbytes > _INLINE_BYTES:
            originals[name] = original
    tensors = _set_aside(model, originals)
    _write(model, folder, weights, max_shard_size, written)
    _refer(model, folder, tensors, originals)
    ir.save(model, folder / graph)


def save_encoder(
    model: ir.Model,
    folder: Path,
    *,
    decoder: ir.Model,
    max_shard_size: int = MAX_SHARD_BYTES,
    written: Callable[[int], None] | None = None,
) -> None:
    """Write an encoder beside its decoder, which has been saved: weights that both have stay in the decoder's file."""
    import onnx_ir as ir

    by_content = {_content(value.const_value): value for value in _large(decoder.graph)}
    originals = {
        name: by_content[content]
        for name, value in ((value.name or "", value) for value in _large(model.graph))
        if (content := _content(value.const_value)) in by_content
    }
    tensors = _set_aside(model, originals)
    _write(model, folder, ENCODER_WEIGHTS, max_shard_size, written)
    _refer(model, folder, tensors, originals)
    ir.save(model, folder / ENCODER)


def save_small_graph(model: ir.Model, path: Path) -> None:
    """Write a graph with its constants in the same file."""
    import onnx_ir as ir

    ir.save(model, path)


def _write(
    model: ir.Model, folder: Path, first: str, max_shard_size: int, written: Callable[[int], None] | None
) -> None:
    """Write the large constants of a model, in their order, into as few files as hold them."""
    import onnx_ir as ir

    shards: list[list[ir.Value]] = [[]]
    size = 0
    for value in (value for graph in model.graphs() for value in _large(graph)):
        assert value.const_value is not None
        if shards[-1] and size + value.const_value.nbytes > max_shard_size:
            shards.append([])
            size = 0
        shards[-1].append(value)
        size += value.const_value.nbytes
    for number, values in enumerate(shards, start=1):
        tensors = [value.const_value for value in values if value.const_value is not None]
        stored = ir.external_data.convert_tensors_to_external(
            tensors, folder, weight_file(first, number), callback=_each(written)
        )
        for value, tensor in zip(values, stored, strict=True):
            value.const_value = tensor


def _each(written: Callable[[int], None] | None) -> Callable[[Any, Any], None] | None:
    return None if written is None else lambda tensor, _: written(tensor.nbytes)


def _large(graph: ir.Graph) -> list[ir.Value]:
    """Constants that are not kept in the graph's own file."""
    values = graph.initializers.values()
    return [value for value in values if value.const_value is not None and value.const_value.nbytes > _INLINE_BYTES]


def _content(tensor: ir.TensorProtocol | None) -> tuple[str, int, bytes]:
    """What tells stored bytes apart; one tensor is in memory at a time."""
    assert tensor is not None
    return str(tensor.dtype), tensor.nbytes, hashlib.sha256(tensor.tobytes()).digest()


def _set_aside(model: ir.Model, names: Iterable[str]) -> dict[str, ir.TensorProtocol]:
    """Put something too small to be written in the place of these weights; returns them."""
    import onnx_ir as ir

    tensors = {}
    for name in names:
        value = model.graph.initializers[name]
        assert value.const_value is not None
        tensors[name] = value.const_value
        value.const_value = ir.tensor([0], dtype=value.const_value.dtype, name=name)
    return tensors


def _refer(
    model: ir.Model, folder: Path, tensors: Mapping[str, ir.TensorProtocol], originals: Mapping[str, ir.Value]
) -> None:
    """Let weights that were set aside be read from where the originals are stored."""
    import onnx_ir as ir

    for name, tensor in tensors.items():
        stored = originals[name].const_value
        assert isinstance(stored, ir.ExternalTensor)
        model.graph.initializers[name].const_value = ir.ExternalTensor(
            stored.location,
            stored.offset,
            stored.length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape),  # type: ignore[arg-type]
            name=name,
            base_dir=folder,
        )
