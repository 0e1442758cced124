from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.passes.split_gemm import split_gemm
from tests.exporter.passes.draft import Draft, copied, noise, operators, run

FEEDS = {"x": noise(3, 8)}


def drafted(*, bias=True, transposed=1, **attributes):
    draft = Draft()
    weight = noise(5, 8, seed=1) if transposed else noise(8, 5, seed=1)
    inputs = [draft.input("x", "B", 8), draft.weight(weight), *([draft.weight(noise(5, seed=2))] if bias else [])]
    return draft.model(y=draft.op("Gemm", *inputs, dims=["B", 5], transB=transposed, **attributes))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transposed", [1, 0])
def test_a_linear_layer_becomes_a_product_and_a_sum(bias, transposed):
    model = drafted(bias=bias, transposed=transposed)
    before = run(copied(model), FEEDS)["y"]
    assert split_gemm(model.graph) == 1
    assert operators(model) == {"MatMul": 1, **({"Add": 1} if bias else {}), **({"Transpose": 1} if transposed else {})}
    np.testing.assert_allclose(run(model, FEEDS)["y"], before, atol=1e-5)
    assert split_gemm(model.graph) == 0


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}])
def test_one_with_factors_stays(attributes):
    assert split_gemm(drafted(**attributes).graph) == 0
