from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.passes.fuse_gate_up import fuse_gate_up
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names

HIDDEN, WIDTH = 12, 20
# One product of twice the width may sum its 12 terms in another order.
ROUNDING = 1e-5
FEEDS = {"x": noise(2, 3, HIDDEN), "other": noise(2, 3, HIDDEN, seed=4)}


def silu(draft, value):
    return draft.op("Mul", value, draft.op("Sigmoid", value))


ACTIVATIONS = {
    "silu": silu,
    "gelu": lambda draft, value: draft.op("Gelu", value, approximate="tanh"),
    "relu": lambda draft, value: draft.op("Relu", value),
    "none": lambda draft, value: value,
}


def projection(draft, source, name, seed, width=WIDTH):
    weight = draft.weight(noise(HIDDEN, width, seed=seed), f"layers.0.mlp.{name}.weight")
    return draft.op("MatMul", source, weight, dims=["B", "T", width])


def drafted(activation="silu", *, swapped=False, source="x", width=WIDTH):
    draft = Draft()
    inputs = {name: draft.input(name, "B", "T", HIDDEN) for name in ("x", "other")}
    up = projection(draft, inputs[source], "up_proj", 1, width)
    gate = ACTIVATIONS[activation](draft, projection(draft, inputs["x"], "gate_proj", 2))
    pair = (up, gate) if swapped else (gate, up)
    return draft.model(y=draft.op("Mul", *pair, dims=["B", "T", WIDTH]))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("swapped", [False, True])
def test_two_projections_become_one_with_the_same_numbers(activation, swapped):
    model = drafted(activation, swapped=swapped)
    before, names = run(copied(model), FEEDS), signature_names(model)
    assert fuse_gate_up(model.graph, quantized={}) == 1
    actual = operators(model)
    assert (actual["MatMul"], actual["Split"]) == (1, 1)
    assert [name for name in model.graph.initializers if "proj" in name] == ["layers.0.mlp.gate_up_proj.weight"]
    assert signature_names(model) == names
    np.testing.assert_allclose(run(model, FEEDS)["y"], before["y"], atol=ROUNDING)
    assert fuse_gate_up(model.graph, quantized={}) == 0


@pytest.mark.parametrize("options", [{"source": "other"}, {"width": 1}])
def test_near_misses_stay_as_they_are(options):
    """Projections of two tensors, and of two widths that broadcast."""
    model = drafted(**options)
    before = operators(model)
    assert fuse_gate_up(model.graph, quantized={}) == 0
    assert operators(model) == before


def test_a_result_that_is_read_elsewhere_stays():
    draft = Draft()
    x = draft.input("x", "B", "T", HIDDEN)
    up = projection(draft, x, "up_proj", 1)
    gate = silu(draft, projection(draft, x, "gate_proj", 2))
    model = draft.model(y=draft.op("Mul", gate, up), z=draft.op("Neg", up))
    assert fuse_gate_up(model.graph, quantized={}) == 0


def test_the_square_of_one_projection_is_no_pair():
    draft = Draft()
    x = draft.input("x", "B", "T", HIDDEN)
    up = projection(draft, x, "up_proj", 1)
    model = draft.model(y=draft.op("Mul", up, up))
    assert fuse_gate_up(model.graph, quantized={}) == 0


def test_a_weight_that_both_projections_share_stays():
    draft = Draft()
    x, weight = draft.input("x", "B", "T", HIDDEN), draft.weight(noise(HIDDEN, WIDTH), "shared.weight")
    up, gate = (draft.op("MatMul", x, weight, dims=["B", "T", WIDTH]) for _ in range(2))
    model = draft.model(y=draft.op("Mul", silu(draft, gate), up))
    assert fuse_gate_up(model.graph, quantized={}) == 0


def test_products_with_a_vector_are_no_projections():
    draft = Draft()
    x = draft.input("x", "B", "T", HIDDEN)
    one, other = (draft.op("MatMul", x, draft.weight(noise(HIDDEN, seed=s), f"v{s}"), dims=["B", "T"]) for s in (1, 2))
    model = draft.model(y=draft.op("Mul", one, other))
    assert fuse_gate_up(model.graph, quantized={}) == 0


def test_two_pairs_of_one_parent_keep_their_own_weights():
    draft = Draft()
    x = draft.input("x", "B", "T", HIDDEN)
    outputs = {}
    for number in range(2):
        parts = []
        for place, name in enumerate(("gate", "up")):
            weight = draft.weight(noise(HIDDEN, WIDTH, seed=2 * number + place), f"mlp.{name}.{number}")
            parts.append(draft.op("MatMul", x, weight, dims=["B", "T", WIDTH]))
        outputs[f"y{number}"] = draft.op("Mul", silu(draft, parts[0]), parts[1])
    model = draft.model(**outputs)
    before = run(copied(model), FEEDS)
    assert fuse_gate_up(model.graph, quantized={}) == 2
    after = run(model, FEEDS)
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, atol=ROUNDING)
