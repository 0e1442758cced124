"""Weights of graphs that read images or hear: what a precision asks for, and which of them become integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.precision.precision import PRECISIONS, WeightFormat
from jisu.exporter.quantization.feature_weights import (
    FEATURE_GRAPHS,
    describe_feature_format,
    feature_format,
    round_feature_weights,
)

EIGHT = WeightFormat(bits=8, block_size=32, symmetric=True)


@pytest.mark.parametrize("file", FEATURE_GRAPHS)
def test_each_precision_has_its_format(file: str) -> None:
    formats = {name: describe_feature_format(feature_format(one, file, ())) for name, one in PRECISIONS.items()}
    assert formats["fp32"] == "float32"
    assert formats["fp16"] == "float16"
    assert {formats[name] for name in ("int8", "int4", "w8a8", "w8a8-dynamic")} == {"8 bits in blocks of 32"}


def test_the_file_among_what_is_kept_keeps_all_of_it() -> None:
    for file, other in (("vision.onnx", "hearing.onnx"), ("hearing.onnx", "vision.onnx")):
        assert feature_format(PRECISIONS["int8"], file, ("*.down_proj", file)) is None
        assert feature_format(PRECISIONS["int8"], file, ("*.down_proj", other)) == EIGHT


def test_products_become_integers_and_widths_that_no_block_divides_do_not() -> None:
    random = np.random.default_rng(0)
    weights = {"wide": random.normal(size=(64, 8)), "odd": random.normal(size=(40, 8))}  # [K, N]
    values = {
        name: ir.Value(
            name=name, const_value=ir.tensor(array.astype(np.float32), name=name), shape=ir.Shape(array.shape)
        )
        for name, array in weights.items()
    }
    inputs = [ir.Value(name=f"x{k}", shape=ir.Shape([1, k]), type=ir.TensorType(ir.DataType.FLOAT)) for k in (64, 40)]
    nodes = [ir.node("MatMul", [one, value]) for one, value in zip(inputs, values.values(), strict=True)]
    graph = ir.Graph(
        inputs,
        [node.outputs[0] for node in nodes],
        nodes=nodes,
        initializers=list(values.values()),
        opset_imports={"": 24},
    )
    rounded = round_feature_weights(graph, EIGHT)
    assert set(rounded) == {"wide"}
    assert np.abs(rounded["wide"].dequantize() - weights["wide"].T).max() < np.abs(weights["wide"]).max() / 200
