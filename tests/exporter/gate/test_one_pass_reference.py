from __future__ import annotations

import numpy as np
import torch
from torch import nn

from jisu.exporter.gate.one_pass_reference import OnePassReference
from tests.support.models import classifier_config, random_model


def test_logits_are_those_of_the_models_own_forward():
    model = random_model(classifier_config(), classifies=True)
    ids = np.arange(3, 20)
    actual = OnePassReference(model, columns=3).logits(ids)
    with torch.no_grad():
        np.testing.assert_array_equal(actual, model.eval()(torch.from_numpy(ids)[None]).logits.numpy())


def test_a_module_in_training_mode_is_run_without_dropout_and_gets_its_mode_back():
    module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Dropout(), nn.Linear(8, 2)).train()
    reference = OnePassReference(module, columns=2)
    ids = np.array([1, 2])
    np.testing.assert_array_equal(reference.logits(ids), reference.logits(ids))
    assert module.training
