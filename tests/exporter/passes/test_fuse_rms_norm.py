from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.passes.fuse_rms_norm import count_places, fuse_rms_norm
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names

SIZE = 8
# The operator sums in another order than the spelled-out form: a few units in the last place of numbers around one.
ROUNDING = 1e-5


def norm(draft, x, *, weight=True, squared=None, axis=-1, root="reciprocal", scale=None, keepdims=1):
    """x * 1/sqrt(mean(x^2) + 1e-6) (* weight); ``squared``: the tensor whose mean is taken, x unless given."""
    dims = [dim if isinstance(dim, int) else str(dim.value) for dim in x.shape]
    two = squared if squared is not None else x
    power = draft.op("Pow", two, draft.weight(np.float32(2.0)))
    short = [1 if place == axis % len(dims) else dim for place, dim in enumerate(dims)]
    mean = draft.op("ReduceMean", power, draft.weight([axis]), dims=short, keepdims=keepdims)
    plus = draft.op("Add", mean, draft.weight(np.float32(1e-6)))
    if root == "reciprocal":
        result = draft.op("Mul", x, draft.op("Reciprocal", draft.op("Sqrt", plus)))
    elif root == "pow":
        result = draft.op("Mul", draft.op("Pow", plus, draft.weight(np.float32(-0.5))), x, dims=dims)
    elif root == "cube":
        result = draft.op("Mul", x, draft.op("Pow", plus, draft.weight(np.float32(-1.5))))
    else:
        result = draft.op("Div", x, draft.op("Sqrt", plus))
    if weight:
        scale = draft.weight(noise(SIZE, seed=1), "norm.weight") if scale is None else scale
        result = draft.op("Mul", scale, result, dims=dims)
    return result


def drafted(**options):
    draft = Draft()
    x = draft.input("x", "B", "T", SIZE)
    other = draft.input("other", "B", "T", SIZE) if options.pop("other", False) else None
    return draft.model(y=norm(draft, x, squared=other, **options))


FEEDS = {"x": noise(2, 3, SIZE), "other": noise(2, 3, SIZE, seed=9)}


@pytest.mark.parametrize("root", ["reciprocal", "pow", "divide"])
@pytest.mark.parametrize("weight", [True, False])
def test_each_spelling_becomes_one_operator_with_the_same_numbers(root, weight):
    model = drafted(root=root, weight=weight)
    before, names = run(copied(model), FEEDS), signature_names(model)
    assert count_places(model.graph) == 1
    assert fuse_rms_norm(model.graph) == 1
    assert operators(model) == {"RMSNormalization": 1}
    assert signature_names(model) == names
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=ROUNDING)
    assert fuse_rms_norm(model.graph) == 0


def test_a_normalized_tensor_that_is_read_twice_keeps_its_weight_outside():
    draft = Draft()
    x = draft.input("x", "B", "T", SIZE)
    plain = norm(draft, x, weight=False)
    model = draft.model(y=draft.op("Mul", plain, draft.weight(noise(SIZE), "w")), z=draft.op("Neg", plain))
    before = run(copied(model), FEEDS)
    assert fuse_rms_norm(model.graph) == 1
    after = run(model, FEEDS)
    for name in ("y", "z"):
        np.testing.assert_allclose(after[name], before[name], atol=ROUNDING)


def test_a_weight_of_another_size_stays_a_product():
    draft = Draft()
    x = draft.input("x", "B", "T", SIZE)
    model = draft.model(y=norm(draft, x, scale=draft.weight(np.float32(3.0))))
    before = run(copied(model), FEEDS)
    assert fuse_rms_norm(model.graph) == 1
    assert operators(model) == {"RMSNormalization": 1, "Mul": 1}
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=ROUNDING)


@pytest.mark.parametrize("options", [{"axis": 1}, {"other": True}, {"root": "cube"}])
def test_near_misses_stay_as_they_are(options):
    """A mean over the tokens, the square of another tensor, another power than the root."""
    model = drafted(**options)
    before = operators(model)
    assert fuse_rms_norm(model.graph) == 0
    assert operators(model) == before


@pytest.mark.parametrize("same", [True, False])
def test_a_difference_that_is_computed_twice_counts_as_one_tensor(same):
    draft = Draft()
    x = draft.input("x", "B", "T", SIZE)
    mean = draft.op("ReduceMean", x, draft.weight([-1]), dims=["B", "T", 1])
    first = draft.op("Sub", x, mean, dims=["B", "T", SIZE])
    second = draft.op("Sub", *((x, mean) if same else (mean, x)), dims=["B", "T", SIZE])
    model = draft.model(y=norm(draft, first, squared=second))
    before = run(copied(model), FEEDS)
    assert fuse_rms_norm(model.graph) == int(same)
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=ROUNDING)


def test_a_sum_of_two_tensors_is_no_epsilon():
    draft = Draft()
    x = draft.input("x", "B", "T", SIZE)
    mean = draft.op("ReduceMean", draft.op("Mul", x, x), draft.weight([-1]), dims=["B", "T", 1])
    plus = draft.op("Add", mean, draft.op("Abs", mean))
    model = draft.model(y=draft.op("Div", x, draft.op("Sqrt", plus)))
    assert count_places(model.graph) == 1
    assert fuse_rms_norm(model.graph) == 0


def test_the_norm_of_a_dynamic_axis_is_left_alone():
    draft = Draft()
    x = draft.input("x", "B", "T")
    model = draft.model(y=norm(draft, x, weight=False))
    assert fuse_rms_norm(model.graph) == 0


def test_every_norm_of_a_chain_is_replaced():
    draft = Draft()
    x = draft.input("x", "B", "T", SIZE)
    for number in range(3):
        x = norm(draft, x, scale=draft.weight(noise(SIZE, seed=number), f"w{number}"))
    model = draft.model(y=x)
    before = run(copied(model), FEEDS)
    assert count_places(model.graph) == fuse_rms_norm(model.graph) == 3
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=5 * ROUNDING)
