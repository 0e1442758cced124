"""A stretch of a graph as an ONNX file of its own, with its weights and an example of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx_ir as ir

EXAMPLE = "example.npz"


def stretch(model: ir.Model, *, begins: Iterable[str], ends: str) -> ir.Model:
    """A copy of what computes ``ends`` from the values ``begins`` and the graph's own inputs; the rest is left out."""
    import onnx_ir as ir
    import onnx_ir.passes.common as common_passes

    part = model.clone()
    graph = part.graph
    by_name = {value.name: value for node in graph for value in node.outputs}
    graph.outputs.clear()
    graph.outputs.append(by_name[ends])
    for name in begins:
        old = by_name[name]
        old.name = f"{name}.computed"
        new = ir.Value(name=name, type=old.type, shape=old.shape)
        old.replace_all_uses_with(new)
        graph.inputs.append(new)
    common_passes.RemoveUnusedNodesPass()(part)
    for value in [value for value in graph.inputs if not value.uses()]:
        graph.inputs.remove(value)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
    return part


def operators_of(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Those that compute something, in order."""
    return [node for node in nodes if node.op_type not in ("Cast", "Identity", "Constant")]


def write_stretch(part: ir.Model, folder: Path, *, arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
    """Write the graph, its weights and the example; returns the graph's path."""
    from jisu.exporter.contract.artifact import GRAPH
    from jisu.exporter.graph.weights_file import save_graph

    folder.mkdir(parents=True, exist_ok=True)
    save_graph(part, folder)
    np.savez(folder / EXAMPLE, **arrays)  # type: ignore[arg-type]
    return folder / GRAPH
