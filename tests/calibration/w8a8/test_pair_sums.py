from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.w8a8.pair_sums import LARGEST_PAIR, pair_sums, quantize_pairs, saturating_product
from jisu.calibration.w8a8.static_activations import quantize_rows

WEIGHTS = {
    "normal": lambda generator, shape: generator.standard_normal(shape),
    "all alike": lambda generator, shape: np.full(shape, 0.3) + 0 * generator.standard_normal(shape),
    "uniform": lambda generator, shape: generator.uniform(-1, 1, shape),
    "heavy tails": lambda generator, shape: generator.standard_t(2, shape),
    "tiny": lambda generator, shape: 1e-30 * generator.standard_normal(shape),
    "zeros": lambda generator, shape: np.zeros(shape) + 0 * generator.standard_normal(shape),
}

# To take 2 from the codes of the one pair that overflows is less than coarser steps for all others.
ONE_PAIR_OF_MANY = np.concatenate([[[90, 40]], np.resize([127, -127, 99, -31], (1, 128))], axis=1).astype(np.float32)


def noise(weight, quantized):
    return float(np.square(quantized.dequantize() - weight).sum())


@pytest.mark.parametrize("features", [1, 2, 7, 64])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_no_input_overflows_a_pair(kind, features):
    weight = WEIGHTS[kind](np.random.default_rng(0), (40, features)).astype(np.float32)
    actual = quantize_pairs(weight)
    assert pair_sums(actual.codes).max() <= LARGEST_PAIR
    assert np.isfinite(actual.scales).all()
    inputs = np.vstack([np.full((1, features), 255), np.random.default_rng(1).integers(0, 256, (3, features))])
    exact = inputs.astype(np.int64) @ actual.codes.T.astype(np.int64)
    np.testing.assert_array_equal(saturating_product(inputs.astype(np.uint8), actual.codes), exact)


def test_pairs_by_hand():
    alone = quantize_pairs(np.array([[127.0, -100.0, 3.0]], np.float32))
    assert (alone.codes.tolist(), alone.scales.tolist()) == ([[127, -100, 3]], [1.0]), "nothing overflows: 8 bits"
    assert quantize_pairs(np.array([[-5.0, -5.0]], np.float32)).codes.tolist() == [[-64, -64]]
    actual = quantize_pairs(ONE_PAIR_OF_MANY)
    assert actual.scales.tolist() == [1.0]
    assert actual.codes[0, :2].tolist() == [89, 39]


def test_the_important_half_of_a_pair_is_kept():
    actual = quantize_pairs(ONE_PAIR_OF_MANY, importance=np.array([1e4] + [1] * 129, np.float32))
    assert actual.codes[0, :2].tolist() == [90, 38]


def test_it_costs_less_than_a_whole_bit():
    weight = np.random.default_rng(0).standard_normal((64, 576)).astype(np.float32)
    seven_bits = quantize_rows(weight)
    coarse = np.rint(weight / (2 * seven_bits.scales[:, None])) * (2 * seven_bits.scales[:, None])
    assert noise(weight, quantize_pairs(weight)) < 2 * noise(weight, seven_bits)
    assert np.square(coarse - weight).sum() > 3.5 * noise(weight, seven_bits)


def test_saturating_sums_by_hand():
    codes = np.array([[127, 127, 1], [127, -127, 1], [-127, -127, -1]], np.int8)
    inputs = np.full((1, 3), 255, np.uint8)
    assert saturating_product(inputs, codes).tolist() == [[32767 + 255, 255, -32768 - 255]]


def test_the_emulation_computes_what_the_kernels_of_a_cpu_without_vnni_do():
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    from jisu.runtimes.machine.int8_sums import int8_sums_overflow

    generator = np.random.default_rng(0)
    inputs, codes = generator.integers(0, 256, (3, 130)), generator.integers(-127, 128, (33, 130))
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [3, 130])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [3, 33])],
        [numpy_helper.from_array(np.ascontiguousarray(codes.T.astype(np.int8)), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [actual] = session.run(None, {"x": inputs.astype(np.uint8)})
    emulated = saturating_product(inputs.astype(np.uint8), codes.astype(np.int8))
    exact = inputs @ codes.T
    assert (emulated != exact).mean() > 0.9
    np.testing.assert_array_equal(actual, emulated if int8_sums_overflow() else exact)
