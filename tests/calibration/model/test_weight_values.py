"""Other numbers for a while: in the weight's memory, or beside it where two bytes a number could not hold them."""

from __future__ import annotations

import pytest
import torch

from jisu.calibration.model.weight_values import OwnValues, set_values

VALUES = torch.tensor([[1.0000001, 2.5]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_are_held_to_the_last_bit_and_taken_back(dtype: torch.dtype) -> None:
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=dtype), requires_grad=False)
    own = OwnValues(weight)
    set_values(weight, VALUES)
    assert torch.equal(weight.data.float(), VALUES)
    own.restore()
    assert weight.dtype == dtype
    assert weight.data.tolist() == [[3.0, 4.0]]


def test_a_view_of_float32_changes_with_it() -> None:
    stacked = torch.zeros(2, 1, 2)
    set_values(stacked[1], VALUES)
    assert torch.equal(stacked[1], VALUES)
