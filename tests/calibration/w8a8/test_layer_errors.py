from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from jisu.calibration.w8a8.layer_errors import choose_products
from jisu.calibration.w8a8.matmul import ActivationFormat, Int8Matmul
from jisu.calibration.w8a8.static_activations import ActivationScale, quantize_rows
from tests.calibration.tiny_models import VOCABULARY, TinyDecoder, tiny_decoder

WINDOWS = [np.random.default_rng(seed).integers(0, VOCABULARY, 12) for seed in (0, 1)]
GROUPS = [("layers.0.gate", "layers.0.up"), ("layers.0.down",), ("layers.1.down",), ("head",)]
FINE, COARSE = 0.04, 1.0


def products(model: TinyDecoder, names: tuple[str, ...], scale: float) -> dict[str, Int8Matmul]:
    """Rows to nearest, inputs in steps of ``scale``."""
    actual = {}
    for name in names:
        weight = model.get_submodule(name).weight.detach().numpy()  # type: ignore[operator]
        rows = quantize_rows(weight)
        actual[name] = Int8Matmul(
            codes=rows.codes,
            scales=rows.scales,
            format=ActivationFormat(activation=ActivationScale(scale=scale, zero_point=0, dtype="int8")),
            channel_scales=np.ones(weight.shape[1], np.float32),
        )
    return actual


def chosen(model: TinyDecoder, steps=(COARSE, FINE), faster=lambda _: False):
    def candidates(names):
        return iter([products(model, names, step) for step in steps])

    return list(choose_products(model, list(model.layers), WINDOWS, GROUPS, candidates, faster=faster))


def step_of(actual) -> set[float]:
    return {part.format.activation.scale for part in actual.values()}


def test_the_candidate_that_moves_the_layer_least_is_chosen():
    results = chosen(tiny_decoder())
    assert [tuple(actual) for actual, _ in results] == GROUPS[:3], "what is in no decoder layer is passed by"
    assert all(step_of(actual) == {FINE} for actual, _ in results)


@pytest.mark.parametrize(("step", "accepted"), [(FINE * 1.02, True), (COARSE, False)])
def test_a_faster_candidate_is_taken_where_it_adds_little_to_what_the_layer_loses(step, accepted):
    results = chosen(tiny_decoder(), (FINE, step), faster=lambda actual: step_of(actual) == {step})
    assert all(step_of(actual) == {step if accepted else FINE} for actual, _ in results)


def test_errors_grow_with_the_rounding():
    model = tiny_decoder()
    fine, coarse = ([error for _, error in chosen(model, [step])] for step in (FINE, COARSE))
    assert all(0 < small < large / 10 for small, large in zip(fine, coarse, strict=True))


def test_the_error_of_one_group_by_hand():
    model = tiny_decoder()
    [_, (actual, error), *_] = chosen(model, [COARSE])
    layer = model.layers[0]
    hidden = [model.embedding(torch.from_numpy(window)[None]) for window in WINDOWS]
    mask = torch.full((12, 12), float("-inf")).triu(1)
    with torch.no_grad():
        truth = [layer(x, mask=mask) for x in hidden]
        part = actual["layers.0.down"]
        layer.down.weight.copy_(torch.from_numpy(part.dequantize()))
        layer.down.register_forward_pre_hook(lambda _, inputs: (part.round_input(inputs[0]),))
        moved = [layer(x, mask=mask) for x in hidden]
    ratios = [(new - old).square().sum(-1) / old.square().sum(-1) for new, old in zip(moved, truth, strict=True)]
    assert error == pytest.approx(float(torch.stack(ratios).mean()), rel=1e-4)


def test_the_model_is_as_before():
    model = tiny_decoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    chosen(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_part_with_other_scales_is_another_candidate():
    model = tiny_decoder()
    doubled = {name: replace(part, scales=2 * part.scales) for name, part in products(model, GROUPS[1], FINE).items()}
    candidates = {GROUPS[1]: [doubled, products(model, GROUPS[1], FINE)]}
    [(actual, error)] = choose_products(
        model, list(model.layers), WINDOWS, [GROUPS[1]], lambda names: iter(candidates[names])
    )
    assert actual is candidates[GROUPS[1]][1]
    assert error < 1e-2
