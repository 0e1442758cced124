from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jisu.exporter.sources import large_projection, paged_weights
from jisu.exporter.sources.large_projection import read_in_pieces
from jisu.exporter.sources.paged_weights import PagedWeights
from tests.support.models import llama_config, random_model

IDS = torch.arange(9)[None]


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(paged_weights, "_SMALL", 1)
    return random_model(llama_config()).eval()


def logits_of(model):
    with torch.inference_mode():
        return model(IDS).logits


@pytest.mark.parametrize("biased", [False, True])
def test_pieces_give_the_same_logits_bit_for_bit(model, biased, tmp_path: Path, monkeypatch):
    if biased:
        model.lm_head.bias = torch.nn.Parameter(torch.randn(model.lm_head.out_features))
    expected = logits_of(model)
    paged = PagedWeights(tmp_path)
    paged.adopt(model)
    rows, features = model.lm_head.weight.shape
    monkeypatch.setattr(large_projection, "PIECE_BYTES", 4 * features * 64)
    counts = []
    monkeypatch.setattr(paged, "count", counts.append)
    with read_in_pieces(model, paged):
        assert torch.equal(logits_of(model), expected)
    # The last one is what the hook of the whole module counts.
    assert [size for size in counts if size == 4 * features * 64] == [4 * features * 64] * (rows // 64)
    assert rows // 64 > 1
    assert "forward" not in vars(model.lm_head)


def test_weights_in_memory_and_small_ones_are_read_at_once(model, tmp_path: Path):
    paged = PagedWeights(tmp_path)
    for file in (None, paged):
        with read_in_pieces(model, file):
            assert "forward" not in vars(model.lm_head)


def test_it_is_read_at_once_again_whatever_happens(model, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(large_projection, "PIECE_BYTES", 1)
    with pytest.raises(ZeroDivisionError), read_in_pieces(model, PagedWeights(tmp_path)):
        assert "forward" in vars(model.lm_head)
        raise ZeroDivisionError
    assert "forward" not in vars(model.lm_head)
