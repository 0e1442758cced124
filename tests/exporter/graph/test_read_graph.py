from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.graph.read_graph import let_go, read_graph

WEIGHT = np.arange(4096, dtype=np.float32).reshape(64, 64)


def write_graph(folder: Path) -> None:
    value = ir.Value(name="w", const_value=ir.tensor(WEIGHT, name="w"))
    graph = ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 24})
    ir.save(ir.Model(graph, ir_version=11), folder / "model.onnx", external_data="model.onnx.data")


def move_behind_links(folder: Path, blobs: Path) -> None:
    blobs.mkdir(parents=True)
    for number, name in enumerate(("model.onnx", "model.onnx.data")):
        (folder / name).rename(blobs / f"{number}")
        (folder / name).symlink_to(os.path.relpath(blobs / f"{number}", folder))


def weight_of(folder: Path) -> np.ndarray:
    weight = read_graph(folder / "model.onnx").graph.initializers["w"].const_value
    assert weight is not None
    return weight.numpy()


def test_weights_behind_links_of_a_hubs_cache_are_read(tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    write_graph(snapshot)
    assert np.array_equal(weight_of(snapshot), WEIGHT)
    move_behind_links(snapshot, repository / "blobs")
    assert np.array_equal(weight_of(snapshot), WEIGHT)


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    write_graph(folder)
    move_behind_links(folder, tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="symlink"):
        weight_of(folder)


def test_a_weight_that_was_let_go_of_is_read_again(tmp_path: Path) -> None:
    write_graph(tmp_path)
    weight = read_graph(tmp_path / "model.onnx").graph.initializers["w"].const_value
    assert weight is not None
    array = weight.numpy()
    assert np.array_equal(array, WEIGHT)
    let_go(weight)
    assert np.array_equal(array, WEIGHT)
    let_go(ir.tensor(WEIGHT))
