from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.passes.lower_skip_norm import count_places, lower_skip_norm
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names

SIZE = 16
# The fused operator sums the squares of 16 numbers in another order.
ROUNDING = 5e-6
FEEDS = {"x": noise(2, 3, SIZE), "update": noise(2, 3, SIZE, seed=1), "row": noise(1, 3, SIZE, seed=2)}


def norm(draft, x, *, axis=-1, weight=None, name="norm.weight"):
    weight = draft.weight(noise(SIZE, seed=3), name) if weight is None else weight
    return draft.op("RMSNormalization", x, weight, axis=axis, epsilon=1e-4, stash_type=1)


def drafted(build):
    draft = Draft()
    x, update = draft.input("x", "B", "T", SIZE), draft.input("update", "B", "T", SIZE)
    return draft.model(**build(draft, x, update))


def residual(draft, x, update):
    total = draft.op("Add", x, update)
    return {"y": norm(draft, total), "z": draft.op("Neg", total)}


def test_sum_and_norm_become_one_operator_with_the_same_numbers():
    model = drafted(residual)
    before, names = run(copied(model), FEEDS), signature_names(model)
    assert count_places(model.graph) == 1
    assert lower_skip_norm(model.graph) == 1
    assert operators(model) == {"SkipSimplifiedLayerNormalization": 1, "Neg": 1}
    assert signature_names(model) == names
    after = run(model, FEEDS)
    for name in ("y", "z"):
        np.testing.assert_allclose(after[name], before[name], atol=ROUNDING)
    assert count_places(model.graph) == lower_skip_norm(model.graph) == 0


def test_two_norms_of_one_sum_are_one_place_and_keep_their_numbers():
    def build(draft, x, update):
        total = draft.op("Add", x, update)
        other = draft.weight(noise(SIZE, seed=8), "other.weight")
        return {"y": norm(draft, total), "z": norm(draft, total, weight=other)}

    model = drafted(build)
    before = run(copied(model), FEEDS)
    assert count_places(model.graph) == lower_skip_norm(model.graph) == 1
    after = run(model, FEEDS)
    for name in ("y", "z"):
        np.testing.assert_allclose(after[name], before[name], atol=ROUNDING)


def over_tokens(draft, x, update):
    return {"y": norm(draft, draft.op("Add", x, update), axis=1, weight=draft.weight(noise(3, SIZE), "w"))}


def with_bias(draft, x, update):
    return {
        "y": norm(draft, draft.op("Add", x, draft.weight(noise(SIZE, seed=2), "bias"))),
        "z": draft.op("Neg", update),
    }


def that_broadcasts(draft, x, update):
    row = draft.input("row", 1, "T", SIZE)
    return {"y": norm(draft, draft.op("Add", x, row)), "z": draft.op("Neg", update)}


def that_is_an_output(draft, x, update):
    total = draft.op("Add", x, update)
    return {"y": norm(draft, total), "z": total}


def with_a_computed_weight(draft, x, update):
    weight = draft.op("Abs", draft.input("scale", SIZE))
    return {"y": norm(draft, draft.op("Add", x, update), weight=weight)}


def with_a_single_weight(draft, x, update):
    return {"y": norm(draft, draft.op("Add", x, update), weight=draft.weight(noise(1), "w"))}


def of_a_difference(draft, x, update):
    return {"y": norm(draft, draft.op("Sub", x, update))}


NEAR_MISSES = [
    over_tokens,
    with_bias,
    that_broadcasts,
    that_is_an_output,
    with_a_computed_weight,
    with_a_single_weight,
    of_a_difference,
]


@pytest.mark.parametrize("build", NEAR_MISSES)
def test_near_misses_stay_as_they_are(build):
    model = drafted(build)
    before = operators(model)
    assert count_places(model.graph) == lower_skip_norm(model.graph) == 0
    assert operators(model) == before
