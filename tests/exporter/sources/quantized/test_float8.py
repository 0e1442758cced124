from __future__ import annotations

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.float8 import find_float8
from tests.exporter.sources.quantized.tables import declared, only, table_of

CODES = torch.tensor([[1.0, -2.0, 0.5], [448.0, 0.0, 3.5]])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("ending", ["weight_scale", "weight_scale_inv", "scale", "scale_weight"])
def test_a_scale_by_any_name_is_a_factor(dtype, ending):
    codes = (CODES / 2).to(dtype)
    weight = only(find_float8, {"x.weight": codes, f"x.{ending}": torch.tensor([0.25])})
    assert weight.name == "x.weight"
    assert torch.equal(weight[...], codes.float() * 0.25)
    assert set(weight.parts) == {"x.weight", f"x.{ending}"}


def test_quanto_names_the_numbers_data():
    tensors = {"x.weight._data": CODES.to(torch.float8_e4m3fn), "x.weight._scale": torch.tensor([[2.0], [0.5]])}
    weight = only(find_float8, tensors)
    assert (weight.name, weight[...][1, 0].item()) == ("x.weight", 224)


def test_every_row_has_its_scale():
    tensors = {"x.weight": CODES.to(torch.float8_e4m3fn), "x.weight_scale": torch.tensor([[2.0], [0.5]])}
    assert only(find_float8, tensors)[...].tolist() == [[2, -4, 1], [224, 0, 1.75]]


def test_blocks_of_the_declared_size_may_be_short_at_the_end():
    tensors = {"x.weight": CODES.to(torch.float8_e4m3fn), "x.weight_scale_inv": torch.tensor([[2.0, 10.0]])}
    weight = only(find_float8, tensors, declared("fp8", weight_block_size=[2, 2]))
    assert weight[...].tolist() == [[2, -4, 5], [896, 0, 35]]


def test_exponents_are_raised():
    tensors = {
        "x.weight": CODES.to(torch.float8_e4m3fn),
        "x.weight_scale": torch.tensor([[126], [128]]).to(torch.uint8),
    }
    assert only(find_float8, tensors)[...].tolist() == [[0.5, -1, 0.25], [896, 0, 7]]


def test_experts_in_one_tensor():
    codes = torch.stack([CODES, CODES]).to(torch.float8_e4m3fn)
    tensors = {"e.down_proj": codes, "e.down_proj_scale_inv": torch.tensor([1.0, 3.0])}
    weight = only(find_float8, tensors)
    assert weight[...][1].tolist() == (CODES * 3).tolist()


def test_numbers_without_a_scale_are_nobodys():
    assert not list(find_float8(table_of({"x.weight": CODES.to(torch.float8_e4m3fn)}), declared()))


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (torch.ones(3), "x.weight_scale of \\[3\\]"),
        (torch.ones(2, 1, dtype=torch.int64), "int64"),
        (torch.tensor([float("nan")]), "NaN"),
        (torch.tensor([float("inf")]), "infinite"),
    ],
)
def test_a_damaged_scale_is_refused(scale, words):
    with pytest.raises(InputError, match=words):
        only(find_float8, {"x.weight": CODES.to(torch.float8_e4m3fn), "x.weight_scale": scale})[...]
