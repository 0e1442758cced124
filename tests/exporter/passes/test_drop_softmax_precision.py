from __future__ import annotations

import pytest

from jisu.exporter.passes.drop_softmax_precision import count_places, drop_softmax_precision
from tests.exporter.passes.draft import Draft


@pytest.mark.parametrize(("precision", "count"), [(1, 1), (10, 0), (None, 0)])
def test_only_float32_is_what_the_kernels_do_anyway(precision, count):
    draft = Draft()
    inputs = [draft.input(name, "B", 2, "T", 8) for name in "qkv"]
    model = draft.model(
        y=draft.op("Attention", *inputs, **({} if precision is None else {"softmax_precision": precision}))
    )
    assert count_places(model.graph) == count
    assert drop_softmax_precision(model.graph) == count
    assert drop_softmax_precision(model.graph) == 0
