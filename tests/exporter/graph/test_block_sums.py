from __future__ import annotations

import numpy as np

from jisu.exporter.graph.block_sums import append_block_sums
from tests.exporter.passes.draft import Draft, noise, operators, run


def test_a_matmul_reads_its_input_and_the_sums_of_its_blocks():
    draft, weight = Draft(), np.zeros((36, 1), np.float32)
    weight[:, 0] = [*[0] * 32, 1, 100, 7, 7]  # the two sums, and two columns that nothing is in
    x = draft.input("x", "B", "T", 32)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(weight, "w"), dims=["B", "T", 1]))
    node = next(iter(model.graph))
    append_block_sums(node, features=32, block_size=16, sums=4)

    values = noise(2, 3, 32)
    expected = values[..., :16].sum(-1, keepdims=True) + 100 * values[..., 16:].sum(-1, keepdims=True)
    np.testing.assert_allclose(run(model, {"x": values})["y"], expected, rtol=1e-4, atol=1e-3)
    assert [str(dim) for dim in node.inputs[0].shape] == ["B", "T", "36"]


def test_matmuls_of_one_input_share_its_sums():
    draft = Draft()
    x = draft.input("x", "B", "T", 32)
    products = [draft.op("MatMul", x, draft.weight(noise(36, 2), f"w{i}"), dims=["B", "T", 2]) for i in range(2)]
    model = draft.model(y=products[0], z=products[1])
    for node in list(model.graph):
        append_block_sums(node, features=32, block_size=16, sums=4)

    assert operators(model) == {"MatMul": 3, "Concat": 1}
