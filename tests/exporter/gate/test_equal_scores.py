from __future__ import annotations

import torch
from torch import nn

from jisu.exporter.gate.equal_scores import lowest_index_first
from tests.support.mixtures import small_mixture

SCORES = torch.tensor([[0.0, 1.0, 0.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0, 3.0]])


def test_the_first_of_equal_scores_is_taken_and_others_as_ever():
    with lowest_index_first(small_mixture()):
        result = torch.topk(SCORES, 2, dim=-1)
        assert result.indices.tolist() == [[1, 3], [4, 0]]
        assert result.values.tolist() == [[1, 1], [3, 2]]
        assert SCORES.topk(2, largest=False, sorted=False).indices.tolist() == [[0, 2], [0, 1]]
        assert SCORES.topk(1, 0)[1].tolist() == [[1, 1, 1, 1, 1]]
    scores = torch.randn(50, 16)
    usual = torch.topk(scores, 4)
    with lowest_index_first(small_mixture()):
        assert torch.equal(torch.topk(scores, 4).indices, usual.indices)


def test_modules_without_experts_run_as_they_are(monkeypatch):
    from jisu.exporter.gate import equal_scores

    monkeypatch.setattr(equal_scores, "_stable_topk", None)
    with lowest_index_first(nn.Linear(2, 2)):
        assert torch.topk(SCORES, 1).values.tolist() == [[1], [3]]
