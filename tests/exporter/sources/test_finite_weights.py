from __future__ import annotations

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import finite_weights
from jisu.exporter.sources.finite_weights import check_finite_weights


def test_weights_that_are_not_finite_are_named():
    module = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(5)))
    check_finite_weights(module)
    with torch.no_grad():
        module[1].weight[0, 0] = float("nan")
        module[2].bias[1] = float("inf")
    with pytest.raises(InputError, match=r"1\.weight, 2\.bias"):
        check_finite_weights(module)
    with torch.no_grad():
        module[3].weight.fill_(float("-inf"))
        module[4].weight.fill_(float("-inf"))
    with pytest.raises(InputError, match="and 1 more"):
        check_finite_weights(module)


@pytest.mark.parametrize("place", [0, 6, 7, 14])
def test_every_piece_of_a_weight_is_looked_at(place, monkeypatch):
    monkeypatch.setattr(finite_weights, "_PIECE", 7)
    module = torch.nn.Linear(5, 3)
    check_finite_weights(module)
    with torch.no_grad():
        module.weight.view(-1)[place] = float("nan")
    with pytest.raises(InputError, match="weight"):
        check_finite_weights(module)
