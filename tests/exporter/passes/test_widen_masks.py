from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.passes.widen_masks import widen_masks
from tests.exporter.passes.draft import Draft, noise, operators, run


def drafted(rows):
    draft = Draft()
    q, k, v = (draft.input(name, "B", 2, "T", 4) for name in "qkv")
    mask = draft.input("mask", "B", 1, rows, "T", dtype=ir.DataType.BOOL)
    first = draft.op("Attention", q, k, v, mask, scale=0.5)
    return draft.model(y=draft.op("Attention", first, k, v, mask, scale=0.5))


def test_one_row_for_all_queries_is_repeated_once():
    model = drafted(1)
    assert widen_masks(model.graph) == 2
    assert operators(model)["Expand"] == 1
    q, k, v = (noise(2, 2, 5, 4, seed=seed) for seed in range(3))
    mask = np.ones((2, 1, 1, 5), bool)
    mask[1, ..., 3:] = False
    whole = run(drafted("T"), {"q": q, "k": k, "v": v, "mask": np.repeat(mask, 5, axis=2)})["y"]
    np.testing.assert_array_equal(run(model, {"q": q, "k": k, "v": v, "mask": mask})["y"], whole)
    assert widen_masks(model.graph) == 0


@pytest.mark.parametrize("rows", ["T", 7])
def test_a_mask_with_a_row_for_each_query_stays(rows):
    assert widen_masks(drafted(rows).graph) == 0
