from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.graph.cpu_graph import widen_half
from tests.exporter.passes.draft import Draft, operators, run


def cubes(half: ir.DataType) -> ir.Model:
    """y = (x * x) * x / 1024, computed in half; x and y in float32, which numpy can feed"""
    draft = Draft()
    x = draft.op("Cast", draft.input("x", 3), to=half, dtype=half)
    tensor = ir.tensor(np.array(1 / 1024, half.numpy()), dtype=half, name="factor")
    factor = ir.Value(name="factor", type=ir.TensorType(half), shape=ir.Shape([]), const_value=tensor)
    draft.weights.append(factor)
    cube = draft.op("Mul", draft.op("Mul", x, x), x)
    return draft.model(y=draft.op("Cast", draft.op("Mul", cube, factor), to=1, dtype=ir.DataType.FLOAT))


@pytest.mark.parametrize("half", [ir.DataType.FLOAT16, ir.DataType.BFLOAT16])
def test_each_result_is_rounded_once(half):
    model, kind = cubes(half), half.numpy()
    assert widen_half(model.graph) == 3
    x = np.array([1.01, 3.3, 12.7], kind)
    expected = x * x * x * np.array(1 / 1024, kind)
    assert expected.dtype == kind, "numpy rounds each product, too"
    actual = run(model, {"x": x.astype(np.float32)})["y"]
    np.testing.assert_array_equal(actual, expected.astype(np.float32))
    assert widen_half(model.graph) == 0


def test_an_overflow_between_two_operators_is_not_hidden():
    """Why the graph exists: given float16 operators, the runtime keeps what lies between them in float32."""
    import onnxruntime

    results = []
    for widen in (False, True):
        model = cubes(ir.DataType.FLOAT16)
        if widen:
            widen_half(model.graph)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            ir.serde.serialize_model(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        results.append(session.run(None, {"x": np.array([300.0, 1, 1], np.float32)})[0][0])
    assert np.isfinite(results[0]), "300^3 / 1024 fits float16, 300^3 and 300^2 do not"
    assert np.isinf(results[1])


def test_a_graph_without_half_is_left_alone():
    draft = Draft()
    x = draft.input("x", 3)
    model = draft.model(y=draft.op("Mul", x, x))
    assert widen_half(model.graph) == 0
    assert operators(model) == {"Mul": 1}
