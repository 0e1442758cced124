"""Rows of features caught on their way into embeddings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.entering_rows import entering_rows


class Model(nn.Module):
    """Puts rows of ones into embeddings of zeros as often as it is told."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3)])
        self.times, self.ran = times, 0

    def forward(self, rows: torch.Tensor, *, use_cache: bool = True) -> torch.Tensor:
        hidden = torch.zeros(1, 5, 3)
        shown = torch.tensor([False, True, True, False, False])[None, :, None].expand(1, 5, 3)
        for _ in range(self.times):
            hidden = hidden.masked_scatter(shown, rows)
        for layer in self.layers:
            self.ran += 1
            hidden = layer(hidden)
        return hidden


def test_the_rows_are_caught_and_the_layers_do_nothing() -> None:
    model: Any = Model(1)
    rows = entering_rows(model, model.layers, {"rows": torch.ones(1, 2, 3)})
    assert rows.shape == (2, 3) and bool((rows == 1).all())
    assert model.ran == 0 and len(model.layers) == 1


@pytest.mark.parametrize("times", [0, 2])
def test_another_way_is_refused(times: int) -> None:
    model: Any = Model(times)
    with pytest.raises(InputError, match="in a way that is not known"):
        entering_rows(model, model.layers, {"rows": torch.ones(2, 3)})
    assert len(model.layers) == 1
