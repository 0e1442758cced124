"""Reads a graph from an artifact's folder, also where its weights are links into a hub's cache.

onnx_ir opens no external data behind a link that leaves the folder. Links of a hub's cache do, and lead to that very
repository's files, see `exporter.contract.hub_links`; any other link stays refused.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.contract.hub_links import lies_in

if TYPE_CHECKING:
    import onnx_ir as ir


def read_graph(path: Path) -> ir.Model:
    """The graph in a file, its weights still on the disk."""
    import onnx_ir as ir

    model = ir.load(path)
    for value in model.graph.initializers.values():
        weight = value.const_value
        if not isinstance(weight, ir.ExternalTensor):
            continue
        file = path.parent / weight.location
        if file.is_symlink() and lies_in(file, path.parent):
            target = file.resolve()
            value.const_value = ir.ExternalTensor(
                target.name,
                weight.offset,
                weight.length,
                weight.dtype,
                shape=weight.shape,
                name=weight.name or "",
                base_dir=target.parent,
            )
    return model


def let_go(tensor: ir.TensorProtocol) -> None:
    """Give the memory of a stored weight that has been read back; whoever reads it again reads the file."""
    mapped = getattr(tensor, "raw", None)  # onnx_ir's mapping of the whole file
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
