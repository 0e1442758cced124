"""Inputs for images get their defaults once, and nothing else does."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from jisu.exporter.contract.signature import IMAGE_FEATURES, IMAGE_INDEX, INPUT_IDS
from jisu.exporter.passes.image_defaults import count_places, image_defaults


def graph() -> ir.Graph:
    ids = ir.Value(name=INPUT_IDS, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["B", "T"]))
    features = ir.Value(name=IMAGE_FEATURES, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["rows", 6]))
    index = ir.Value(name=IMAGE_INDEX, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["r", "c"]))
    node = ir.node("Gather", [features, index])
    return ir.Graph([ids, features, index], [node.outputs[0]], nodes=[node], opset_imports={"": 24})


def test_it_gives_defaults_once() -> None:
    made = graph()
    assert count_places(made) == 2
    assert image_defaults(made) == 2
    assert set(made.initializers) == {IMAGE_FEATURES, IMAGE_INDEX}
    features = made.initializers[IMAGE_FEATURES].const_value
    assert features is not None
    assert features.numpy().shape == (1, 6)
    assert not np.any(features.numpy())
    assert image_defaults(made) == 0
    assert count_places(made) == 0


def test_a_graph_that_reads_no_images_is_left_alone() -> None:
    made = graph()
    del made.inputs[1:]
    assert image_defaults(made) == 0
