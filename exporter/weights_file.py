"""Writes a graph and its weights: each weight is computed when its turn comes, and the same bytes are stored once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact import GRAPH, WEIGHTS

if TYPE_CHECKING:
    import onnx_ir as ir

# Smaller constants stay in the graph's own file.
_INLINE_BYTES = 256
# Endings of initializer names that hold the same bytes: what the embedding's operator reads, what the product's reads.
_ALIAS, _ORIGINAL = ".data", ".packed"


def save_graph(model: ir.Model, folder: Path) -> None:
    """Write ``model.onnx`` and ``model.onnx.data`` into a folder; the model's weights point there afterwards.

    An initializer ``x.data`` beside an ``x.packed`` of as many bytes refers to the same place in the file: external
    data may be read in more than one shape.
    """
    import onnx_ir as ir

    initializers = model.graph.initializers
    aliases = {}
    for name, value in list(initializers.items()):
        original = initializers.get(name.removesuffix(_ALIAS) + _ORIGINAL) if name.endswith(_ALIAS) else None
        tensor = value.const_value
        if original is None or tensor is None or original.const_value is None:
            continue
        if tensor.nbytes == original.const_value.nbytes > _INLINE_BYTES:
            aliases[name] = (tensor, original)
            value.const_value = ir.tensor([0], dtype=tensor.dtype, name=name)
    ir.external_data.unload_from_model(model, folder, WEIGHTS, size_threshold_bytes=_INLINE_BYTES)
    for name, (tensor, original) in aliases.items():
        stored = original.const_value
        assert isinstance(stored, ir.ExternalTensor)
        initializers[name].const_value = ir.ExternalTensor(
            stored.location,
            stored.offset,
            stored.length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape),  # type: ignore[arg-type]
            name=name,
            base_dir=folder,
        )
    ir.save(model, folder / GRAPH)
