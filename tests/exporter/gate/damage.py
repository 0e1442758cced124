"""Copies of artifacts with something changed in their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir


def damaged(artifact: Any, folder: Path, damage: Callable[[ir.Model], None], *, graph: str = "model.onnx") -> Path:
    """A copy of an artifact's folder whose graph has been edited; returns the graph's file."""
    shutil.copytree(artifact.folder, folder)
    model = ir.load(folder / graph)
    damage(model)
    ir.save(model, folder / graph)
    return folder / graph


def change(model: ir.Model, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the numbers of a constant."""
    value = model.graph.initializers[name]
    tensor = value.const_value
    assert tensor is not None
    array = np.ascontiguousarray(edit(tensor.numpy().copy()))
    value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=name)
