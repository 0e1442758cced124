from __future__ import annotations

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.models.classifier import Classifier
from jisu.exporter.models.settings import NETWORKS
from tests.exporter.models.small import settings


@pytest.mark.parametrize("network", NETWORKS)
def test_padding_changes_nothing(network):
    torch.manual_seed(3)
    model = Classifier(settings(network), ["good", "bad", "neither"]).eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.inference_mode():
        together = model(ids, mask)
        alone = torch.cat([model(ids[:1]), model(ids[1:, :2])])
    assert together.shape == (2, 3)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_text_of_padding_alone_gives_finite_scores():
    model = Classifier(settings("lstm"), ["a", "b"]).eval()
    zeros = torch.zeros((1, 2), dtype=torch.int64)
    assert torch.isfinite(model(zeros, zeros)).all()


@pytest.mark.parametrize("labels", [[], ["only"], ["same", "same"]])
def test_labels_that_decide_nothing_are_refused(labels):
    with pytest.raises(InputError, match="two or more different labels"):
        Classifier(settings("gru"), labels)
