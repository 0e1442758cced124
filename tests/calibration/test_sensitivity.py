from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from jisu.calibration.errors import ActivationError
from jisu.calibration.sensitivity import GroupSensitivity, Scorer, measure_groups
from jisu.calibration.sequential import GroupStatistics
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from tests.calibration.tiny_models import TinyDecoder, tiny_decoder

WINDOWS = [np.random.default_rng(seed).integers(0, 32, 24) for seed in range(6)]
GROUPS = [("query", "key", "value"), ("gate", "up"), ("down",)]


def candidates(group: GroupStatistics) -> Iterator[tuple[str, Sequence[BlockQuantized]]]:
    for label, bits in (("int8", 8), ("int2", 2)):
        form = BlockFormat(bits=bits, block_size=16, symmetric=False)
        yield label, [round_to_nearest(weight, form, layer="w") for weight in group.weights]


def measured(model: TinyDecoder, **options: object) -> dict[int, list[GroupSensitivity]]:
    layers = list(model.layers)
    scorer = Scorer(model, layers, WINDOWS[:2])
    return dict(
        measure_groups(model, layers, calibration=WINDOWS, scorer=scorer, candidates=candidates, **options)  # type: ignore[arg-type]
    )


def by_hand(model: TinyDecoder, names: Sequence[str], bits: int) -> float:
    """Mean KL divergence of the model with some matrices rounded, every layer run."""
    form = BlockFormat(bits=bits, block_size=16, symmetric=False)
    ids = torch.from_numpy(np.stack(WINDOWS[:2]))
    with torch.no_grad():
        truth = model(ids).logits.double().log_softmax(-1)
        for name in names:
            weight = model.get_submodule(name).weight
            weight.copy_(torch.from_numpy(round_to_nearest(weight.numpy(), form, layer="w").dequantize()))  # type: ignore[operator,union-attr,arg-type]
        changed = model(ids).logits.double().log_softmax(-1)
    return float((truth.exp() * (truth - changed)).sum(-1).mean())


def test_every_group_of_every_layer_is_measured_as_if_the_whole_model_were_run() -> None:
    actual = measured(tiny_decoder())
    assert [[group.names for group in groups] for groups in actual.values()] == [
        [tuple(f"layers.{layer}.{name}" for name in names) for names in GROUPS] for layer in (0, 1)
    ]
    for groups in actual.values():
        for group in groups:
            for label, bits in (("int8", 8), ("int2", 2)):
                expected = by_hand(tiny_decoder(), group.names, bits)
                assert group.kl[label] == pytest.approx(expected, rel=1e-3, abs=1e-6), (group.names, label)
            assert group.kl["int2"] > 10 * group.kl["int8"]


def test_the_model_is_as_before() -> None:
    model = tiny_decoder()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    measured(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name
    assert not any("forward" in vars(layer) for layer in model.layers)


def test_known_layers_are_passed_by_and_kept_ones_left_out() -> None:
    known = {0: [GroupSensitivity(names=("layers.0.down",), kl={"int8": 7.0})]}
    calls = []
    actual = measured(
        tiny_decoder(), known=known, keep=lambda name: not name.endswith("down"), progress=lambda *at: calls.append(at)
    )
    assert actual[0] == known[0]
    assert [group.names for group in actual[1]] == [("layers.1.down",)]
    assert calls == [(1, 2), (2, 2)]


def test_an_unchanged_model_has_no_divergence() -> None:
    model = tiny_decoder()
    scorer = Scorer(model, list(model.layers), WINDOWS)
    assert abs(scorer.divergence()) < 1e-6


def test_logits_that_are_not_finite_name_the_layer() -> None:
    model = tiny_decoder()
    with torch.no_grad():
        model.layers[1].down.weight.fill_(float("nan"))
    with pytest.raises(ActivationError, match=r"layers\.1"):
        Scorer(model, list(model.layers), WINDOWS)
