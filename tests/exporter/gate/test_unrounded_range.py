from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from jisu.exporter.gate.unrounded_range import float_bytes, intended_weights, unrounded_graph

torch = pytest.importorskip("torch", reason="sources are torch models")
GENERATOR = np.random.default_rng(0)
CODES = GENERATOR.integers(-127, 128, (32, 8)).astype(np.int8)
SCALES = GENERATOR.uniform(0.01, 0.02, 8).astype(np.float32)
INPUT = GENERATOR.normal(size=(3, 32)).astype(np.float32)
EXPECTED = INPUT @ (CODES * SCALES)
DEQUANTIZE = helper.make_node("DequantizeLinear", ["codes", "scales"], ["weight"], axis=1)
QUANTIZE = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["rounded"])
# The forms in which our passes multiply with rounded inputs.
FORMS = {
    "static": [
        QUANTIZE,
        helper.make_node("DequantizeLinear", ["rounded", "scale", "zero"], ["back"]),
        DEQUANTIZE,
        helper.make_node("MatMul", ["back", "weight"], ["y"]),
    ],
    "lowered": [
        QUANTIZE,
        helper.make_node(
            "MatMulIntegerToFloat",
            ["rounded", "codes", "scale", "scales", "zero"],
            ["y"],
            domain="com.microsoft",
        ),
    ],
    "with a bias": [
        QUANTIZE,
        helper.make_node(
            "MatMulIntegerToFloat",
            ["rounded", "codes", "scale", "scales", "zero", "", "bias"],
            ["moved"],
            domain="com.microsoft",
        ),
        helper.make_node("Sub", ["moved", "bias"], ["y"]),
    ],
    "integers": [
        QUANTIZE,
        helper.make_node("MatMulInteger", ["rounded", "codes", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scales"], ["scaled"]),
        helper.make_node("Mul", ["scaled", "scale"], ["y"]),
    ],
}


def saved(nodes, path):
    constants = {"codes": CODES, "scales": SCALES, "scale": np.float32(0.1), "zero": np.uint8(128)}
    constants["bias"] = GENERATOR.normal(size=8).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "form",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def run(data):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")  # as the gate opens it
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": INPUT})[0]


@pytest.mark.parametrize("form", FORMS)
def test_inputs_are_multiplied_as_they_are_and_weights_as_they_are_stored(form, tmp_path):
    import onnx_ir as ir

    path = saved(FORMS[form], tmp_path / "model.onnx")
    assert np.abs(run(path.read_bytes()) - EXPECTED).max() > 0.01
    graph = unrounded_graph(path)
    assert graph is not None
    assert np.abs(run(ir.to_proto(graph).SerializeToString()) - EXPECTED).max() < 1e-5


def test_a_graph_that_rounds_in_another_way_is_not_asked(tmp_path):
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["rounded", "s", "z"]),
        helper.make_node("MatMulInteger", ["rounded", "codes", "z"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["y"], to=TensorProto.FLOAT),
    ]
    assert unrounded_graph(saved(nodes, tmp_path / "model.onnx")) is None


def test_a_module_has_the_integers_for_a_while_and_its_own_weights_afterwards():
    from jisu.calibration.weights.formats import BlockFormat
    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    module = torch.nn.Sequential(torch.nn.Embedding(6, 32), torch.nn.Linear(32, 6))
    module[1].weight = module[0].weight  # tied
    own = module[0].weight.detach().clone()
    part = round_to_nearest(own.numpy(), BlockFormat(bits=4, block_size=32, symmetric=True), layer="0")
    intended = {"0.weight": part, "1.weight": part}
    assert float_bytes(intended) == 4 * own.numel()
    with pytest.raises(ZeroDivisionError), intended_weights(module, intended):
        assert np.array_equal(module[1].weight.detach().numpy(), part.dequantize())
        assert module[0].weight is module[1].weight
        raise ZeroDivisionError
    assert torch.equal(module[0].weight, own)


def test_a_matmul_of_few_bits_takes_its_inputs_as_they_are(tmp_path):
    attributes = {"K": 32, "N": 1, "bits": 4, "block_size": 32, "accuracy_level": 4}
    node = helper.make_node("MatMulNBits", ["x", "codes", "scales"], ["y"], domain="com.microsoft", **attributes)
    constants = [
        numpy_helper.from_array(np.zeros((1, 1, 16), np.uint8), "codes"),
        numpy_helper.from_array(np.ones(1, np.float32), "scales"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 32), ("y", 1))]
    graph = helper.make_graph([node], "g", value[:1], value[1:], constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "model.onnx")
    unrounded = unrounded_graph(tmp_path / "model.onnx")
    assert unrounded is not None
    assert [one.attributes["accuracy_level"].as_int() for one in unrounded.graph] == [1]
