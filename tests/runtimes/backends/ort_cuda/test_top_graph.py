from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from jisu.runtimes.backends.ort_cuda.top_graph import IDS, INPUT, SUM, VALUES, top_graph


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_graph_is_a_valid_one_and_picks_the_largest(dtype):
    data = top_graph(dtype, count=3)
    onnx.checker.check_model(onnx.ModelProto.FromString(data), full_check=True)
    logits = np.array([[[1, 5, 5, -2, 4]], [[0, -1, -2, -3, -4]]], dtype)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    values, ids, total = session.run([VALUES, IDS, SUM], {INPUT: logits})
    assert ids.tolist() == [[[1, 2, 4]], [[0, 1, 2]]]  # the lower of two equal ones first
    assert values.dtype == np.float32
    assert values[:, 0].tolist() == [[5, 5, 4], [0, -1, -2]]
    assert total.tolist() == [13, -10]


def test_what_is_not_finite_shows_in_the_sum():
    session = onnxruntime.InferenceSession(top_graph("float32", count=1), providers=["CPUExecutionProvider"])
    for wrong in (np.nan, np.inf, -np.inf):
        logits = np.array([[[1, wrong, 2]]], np.float32)
        assert not np.isfinite(session.run([SUM], {INPUT: logits})[0]).any()
