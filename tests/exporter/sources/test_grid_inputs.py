"""What a vision network asks of a grid is heard, and what is not known is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.grid_inputs import grid_inputs_of
from tests.support.image_models import FAMILIES


@pytest.fixture(scope="module")
def model() -> Any:
    return FAMILIES["qwen3_vl"]()[0]


def run(model: Any) -> Any:
    pixels = torch.zeros(16, 96)
    with torch.no_grad():
        return model.get_image_features(pixel_values=pixels, image_grid_thw=torch.tensor([[1, 4, 4]]))


def test_what_is_asked_is_heard_with_its_settings(model: Any) -> None:
    heard = grid_inputs_of(model, lambda: run(model))
    assert heard["position_ids"] == {"merge": 2}
    assert heard["interpolation"]["side"] == 4
    assert "windows" not in heard


def test_a_filter_that_is_not_known_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.model.visual, "interpolation_mode", "bicubic")
    with pytest.raises(InputError, match="bicubic filters"):
        grid_inputs_of(model, lambda: run(model))


def test_functions_are_put_back(model: Any) -> None:
    from transformers.models.qwen3_vl import modeling_qwen3_vl

    before = modeling_qwen3_vl.get_vision_position_ids
    with pytest.raises(ZeroDivisionError):
        grid_inputs_of(model, lambda: 1 / 0)
    assert modeling_qwen3_vl.get_vision_position_ids is before
