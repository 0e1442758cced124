"""Weights of the graph that reads images: what a precision asks for, and which of them become integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from jisu.exporter.precision.precision import PRECISIONS, WeightFormat
from jisu.exporter.quantization.vision_weights import describe_vision_format, round_vision_weights, vision_format

EIGHT = WeightFormat(bits=8, block_size=32, symmetric=True)


def test_each_precision_has_its_format() -> None:
    formats = {name: describe_vision_format(vision_format(one, ())) for name, one in PRECISIONS.items()}
    assert formats["fp32"] == "float32"
    assert formats["fp16"] == "float16"
    assert {formats[name] for name in ("int8", "int4", "w8a8", "w8a8-dynamic")} == {"8 bits in blocks of 32"}


def test_the_file_among_what_is_kept_keeps_all_of_it() -> None:
    assert vision_format(PRECISIONS["int8"], ("*.down_proj", "vision.onnx")) is None
    assert vision_format(PRECISIONS["int8"], ("*.down_proj",)) == EIGHT


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
    rounded = round_vision_weights(graph, EIGHT)
    assert set(rounded) == {"wide"}
    assert np.abs(rounded["wide"].dequantize() - weights["wide"].T).max() < np.abs(weights["wide"]).max() / 200
