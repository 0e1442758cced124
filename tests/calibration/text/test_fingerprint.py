from __future__ import annotations

import torch

from jisu.calibration.text.fingerprint import model_fingerprint
from tests.calibration.tiny_models import tiny_decoder


def test_equal_models_are_equal_and_others_are_not() -> None:
    assert model_fingerprint(tiny_decoder()) == model_fingerprint(tiny_decoder())
    assert model_fingerprint(tiny_decoder()) != model_fingerprint(tiny_decoder(seed=1))


def test_one_changed_weight_between_the_samples_is_noticed() -> None:
    model = torch.nn.Linear(64, 64)
    before = model_fingerprint(model)
    model.weight.data[3, 1] += 0.5
    assert model_fingerprint(model) != before
