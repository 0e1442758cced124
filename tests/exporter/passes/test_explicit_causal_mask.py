from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.passes.explicit_causal_mask import count_places, explicit_causal_mask
from tests.exporter.passes.draft import Draft, copied, noise, operators, run


def attention(*, causal: int = 1, mask: bool = False):
    draft = Draft()
    sizes = {"q": ("B", 4, "T", 8), "k": ("B", 2, "T", 8), "v": ("B", 2, "T", 8)}
    query, key, value = (draft.input(name, *dims) for name, dims in sizes.items())
    inputs = [query, key, value]
    if mask:
        import onnx_ir as ir

        inputs.append(draft.input("mask", "T", "T", dtype=ir.DataType.BOOL))
    return draft.model(y=draft.op("Attention", *inputs, is_causal=causal))


def feeds(*, mask: bool):
    actual = {"q": noise(2, 4, 5, 8), "k": noise(2, 2, 5, 8, seed=1), "v": noise(2, 2, 5, 8, seed=2)}
    return actual | ({"mask": np.eye(5, dtype=bool) | (np.arange(5) == 0)} if mask else {})


@pytest.mark.parametrize("mask", [False, True])
def test_the_mask_gives_the_numbers_of_the_attribute(mask):
    model = attention(mask=mask)
    before = copied(model)
    assert count_places(model.graph) == explicit_causal_mask(model.graph) == 1
    node = next(node for node in model.graph if node.op_type == "Attention")
    assert "is_causal" not in node.attributes
    actual = run(model, feeds(mask=mask))["y"]
    np.testing.assert_allclose(actual, run(before, feeds(mask=mask))["y"], atol=1e-6)
    assert explicit_causal_mask(model.graph) == 0


def test_an_attention_that_sees_everything_is_left_alone():
    model = attention(causal=0)
    assert explicit_causal_mask(model.graph) == count_places(model.graph) == 0
    assert operators(model) == {"Attention": 1}
