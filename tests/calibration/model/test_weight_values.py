"""Other numbers for a while: in the weight's memory, or beside it where two bytes a number could not hold them."""

from __future__ import annotations

import pytest
import torch

from jisu.calibration.model.weight_values import OwnValues, set_rounded, set_values
from jisu.calibration.weights import formats
from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest

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


def test_own_values_come_back_from_where_they_were_put() -> None:
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]), requires_grad=False)
    put: list[torch.Tensor] = []

    def put_aside(tensor: torch.Tensor) -> torch.Tensor:
        put.append(tensor.clone())
        return put[-1]

    own = OwnValues(weight, put_aside=put_aside)
    set_values(weight, VALUES)
    own.restore()
    assert weight.tolist() == [[3.0, 4.0]] == put[0].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rounded_weight_is_held_whole_whatever_pieces_it_comes_in(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "_PIECE", 3 * 32)
    values = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    form = BlockFormat(bits=4, block_size=32, symmetric=False)
    rounded = round_to_nearest(values.numpy(), form, layer="w")
    weight = torch.nn.Parameter(values.to(dtype), requires_grad=False)
    memory, own = weight.data_ptr(), OwnValues(weight)
    set_rounded(weight, rounded)
    assert torch.equal(weight.data.float(), torch.from_numpy(rounded.dequantize()))
    assert (weight.data_ptr() == memory) == (dtype == torch.float32)
    own.restore()
    assert torch.equal(weight.data, values.to(dtype))
